"""Prepare without the cache of ingest: images are decoded, checked, resized and written."""

from __future__ import annotations

from functools import partial

from benchmarks.bare_loop import shrink
from benchmarks.image_stage import measure_stage
from benchmarks.row import Row


def measure() -> list[Row]:
    """Measure rate, growth and memory."""
    return measure_stage("prepare", lambda size: partial(shrink, size=size))
