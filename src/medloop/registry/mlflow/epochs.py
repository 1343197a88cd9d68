"""Metrics by epoch for MLflow, written by a thread so that training neither waits for the server nor fails with it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from medloop.errors import UserError
from medloop.registry.mlflow.tracking import Tracker

BATCH_SECONDS = 2.0
# How long to wait for pending metrics at the end.
FLUSH_SECONDS = 15.0
FINAL = -1
POSITION = ("fold", "epoch")
# Names with these prefixes are complete; the other metrics of an epoch are those of the validation cases.
COMPLETE_PREFIXES = ("train_", "val_", "tune_", "seconds", "images_per_s")

Point = tuple[str, float, int, int]
_log = logging.getLogger("medloop")


@dataclass(eq=False)
class LiveRun:
    """A run that is written while it is in progress."""

    log_book: EpochLog
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    parent: LiveRun | None
    run_id: str | None = field(default=None, init=False)

    def log(self, row: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, or metrics without one."""
        self.log_book.put((self, _points(row)))

    def tag(self, **tags: str) -> None:
        """Set tags of the run."""
        self.log_book.put((self, tags))

    def end(self, *, state: str) -> None:
        """End the run; `state` is complete, pruned or failed."""
        self.tag(state=state)

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(state="failed" if error else "complete")


Entry = tuple[LiveRun, list[Point] | dict[str, str]]


class EpochLog:
    """The thread that writes; if the server does not respond, it logs that once and drops the rest."""

    def __init__(self, tracker: Tracker | None) -> None:
        self._tracker = tracker
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._is_away = False

    def run(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
        parent: LiveRun | None = None,
    ) -> LiveRun:
        """Return a run that begins in MLflow with its first metrics."""
        return LiveRun(self, name, tags, params or {}, parent)

    def put(self, entry: Entry) -> None:
        """Queue an entry without waiting."""
        if self._tracker is None or self._is_away:
            return
        self._queue.put(entry)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=[self._tracker], name="mlflow", daemon=True)
            self._thread.start()

    def __enter__(self) -> EpochLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._closing.set()
        self._queue.put(None)
        self._thread.join(FLUSH_SECONDS)
        if self._thread.is_alive():
            self._give_up(f"not all were accepted within {FLUSH_SECONDS:.0f} s of the end")

    def _work(self, tracker: Tracker) -> None:
        try:
            while not (self._closing.is_set() and self._queue.empty()):
                _write(tracker, self._next())
        except UserError as error:
            self._give_up(error.reason)

    def _give_up(self, why: str) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning("the metrics by epoch are not in MLflow: %s", why)

    def _next(self) -> list[Entry]:
        """Return all entries that arrive within a short time."""
        entries = [self._queue.get()]
        self._closing.wait(BATCH_SECONDS)
        while not self._queue.empty():
            entries.append(self._queue.get())
        return [entry for entry in entries if entry is not None]


def _write(tracker: Tracker, entries: Sequence[Entry]) -> None:
    """Write entries in few requests, grouped by run."""
    for run in dict.fromkeys(run for run, _ in entries):
        mine = [content for of, content in entries if of is run]
        run_id = _begin(tracker, run)
        tracker.log_points(run_id, [point for content in mine if isinstance(content, list) for point in content])
        tracker.tag(run_id, dict(pair for content in mine if isinstance(content, dict) for pair in content.items()))


def _begin(tracker: Tracker, run: LiveRun) -> str:
    if run.run_id is None:
        parent = _begin(tracker, run.parent) if run.parent else None
        run.run_id = tracker.begin(run.name, tags=run.tags, params=run.params, parent=parent)
    return run.run_id


def _points(row: Mapping[str, float]) -> list[Point]:
    fold, when, step = int(row.get("fold", FINAL)), int(time.time() * 1000), int(row.get("epoch", 0))
    prefix = "" if fold == FINAL else f"fold{fold}_"
    return [
        (f"{prefix}{name if name.startswith(COMPLETE_PREFIXES) else f'val_{name}'}", float(value), when, step)
        for name, value in row.items()
        if name not in POSITION
    ]
