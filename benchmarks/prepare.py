"""Preparing images: decoded, checked, brought to one size and written."""

from __future__ import annotations

from functools import partial

from benchmarks.bare_loop import shrink
from benchmarks.image_stage import measure_stage
from benchmarks.row import Row


def measure() -> list[Row]:
    """The rates, the growth and the memory."""
    return measure_stage("prepare", lambda size: partial(shrink, size=size))
