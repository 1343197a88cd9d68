"""Figures on their way to MLflow: a thread writes them, so that no training waits for the server or fails by it."""

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
from medloop.registry.tracking import Tracker

BATCH_SECONDS = 2.0
# What is still on its way when the work has ended may take this long.
LAST_SECONDS = 15.0
FINAL = -1
PLACE = ("fold", "epoch")
# These say by themselves what they are; the other figures of an epoch are those of the validation cases.
NAMED = ("train_", "val_", "tune_", "seconds", "images_per_s")

Point = tuple[str, float, int, int]
_log = logging.getLogger("medloop")


@dataclass(eq=False)
class LiveRun:
    """One run that is written while it goes on."""

    log_book: EpochLog
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    parent: LiveRun | None
    run_id: str | None = field(default=None, init=False)

    def log(self, row: Mapping[str, float]) -> None:
        """The figures of an epoch, or some without one."""
        self.log_book.put((self, _points(row)))

    def tag(self, **tags: str) -> None:
        """What becomes known of the run only later."""
        self.log_book.put((self, tags))

    def end(self, *, state: str) -> None:
        """No more comes; `state` is complete, pruned or failed."""
        self.tag(state=state)

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(state="failed" if error else "complete")


Entry = tuple[LiveRun, list[Point] | dict[str, str]]


class EpochLog:
    """The thread that writes; when the server does not answer it says so once and drops the rest."""

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
        """A run that begins in MLflow with its first figures."""
        return LiveRun(self, name, tags, params or {}, parent)

    def put(self, entry: Entry) -> None:
        """Hand an entry over, at once."""
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
        self._thread.join(LAST_SECONDS)
        if self._thread.is_alive():
            self._give_up(f"not all was taken within {LAST_SECONDS:.0f} s of the end")

    def _work(self, tracker: Tracker) -> None:
        try:
            while not (self._closing.is_set() and self._queue.empty()):
                _write(tracker, self._next())
        except UserError as error:
            self._give_up(error.found)

    def _give_up(self, why: str) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning("the figures by epoch are not in MLflow: %s", why)

    def _next(self) -> list[Entry]:
        """All that has come in a while."""
        entries = [self._queue.get()]
        self._closing.wait(BATCH_SECONDS)
        while not self._queue.empty():
            entries.append(self._queue.get())
        return [entry for entry in entries if entry is not None]


def _write(tracker: Tracker, entries: Sequence[Entry]) -> None:
    """In few requests: what came for one run goes together."""
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
        (f"{prefix}{name if name.startswith(NAMED) else f'val_{name}'}", float(value), when, step)
        for name, value in row.items()
        if name not in PLACE
    ]
