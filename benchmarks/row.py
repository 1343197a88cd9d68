"""One line of the table that the measurements give, and how several things are timed fairly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured, what came out, and what was asked for."""

    what: str
    found: str
    wanted: str
    holds: bool


def interleaved(
    works: Mapping[str, Callable[[], object]], *, before: Callable[[], object], rounds: int
) -> dict[str, float]:
    """The median seconds of each; they take turns, so that a busy spell of the machine strikes them all."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            before()
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}
