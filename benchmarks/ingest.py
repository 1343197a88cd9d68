"""Ingest: hashes, the decoded pictures, and what audit and prepare need of them."""

from __future__ import annotations

from functools import partial

from benchmarks.bare_loop import hash_decode_and_shrink
from benchmarks.image_stage import measure_stage
from benchmarks.row import Row


def measure() -> list[Row]:
    """Measure rate, growth and memory; the bare loop does without the figures of the audit."""
    return measure_stage("ingest", lambda size: partial(hash_decode_and_shrink, size=size))
