"""Ingest, with its hashes."""

from __future__ import annotations

from benchmarks.bare_loop import hash_and_decode
from benchmarks.image_stage import measure_stage
from benchmarks.row import Row


def measure() -> list[Row]:
    """The rates, the growth and the memory."""
    return measure_stage("ingest", lambda _: hash_and_decode)
