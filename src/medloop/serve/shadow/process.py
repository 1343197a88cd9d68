"""The process in which a challenger repeats the predictions of the champion; it may crash or hang."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from medloop.bundle import files
from medloop.bundle.predictor import MISFITS, Predictor
from medloop.errors import BrokenBundle, UserError
from medloop.feedback import FeedbackAway, StoredPrediction
from medloop.feedback.reader import Mark, Reader, settled
from medloop.registry.mirror import open_store
from medloop.registry.store import Numbered
from medloop.serve.shadow.report import NOTHING_TO_DO, ShadowReport, Task
from medloop.serve.telemetry.logs import log_to_stderr
from medloop.storage import file_lock

log = logging.getLogger("medloop.shadow")

PAGE = 50
POLL_SECONDS = 1.0
WRITE_SECONDS = 5.0
CORRECTIONS_SECONDS = 60.0
RETRY_SECONDS = 10.0
END_SECONDS = 2.0
# Limit on elapsed time as a multiple of processor time, since the process runs at low priority.
ELAPSED_FACTOR = 20
# Errors of a challenger that are counted.
FAILURES: tuple[type[Exception], ...] = (*MISFITS, MemoryError, OSError)


class Incomparable(Exception):
    """The reason why the challenger cannot be compared, as a sentence."""


def main() -> None:
    """Score until the parent process closes standard input or ends."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    task = Task.from_json(sys.stdin.readline())
    ended = threading.Event()
    threading.Thread(target=_watch_parent, args=(ended,), daemon=True).start()
    with ExitStack() as stack:
        if _lock_report(task, ended, stack):
            cv2.setNumThreads(1)
            limit_memory(task.settings.shadow.memory_mib)
            sys.exit(shadow(task, ended))


def shadow(task: Task, ended: threading.Event) -> int:
    """Score until `ended` is set, and return the exit code."""
    report = ShadowReport.read(task.file, task.pair)
    try:
        if task.pair.champion is None or task.pair.challenger is None:
            raise Incomparable("There are no two versions to compare.")
        reader = _open_reader(task, ended)
        with limited(task.settings.shadow.case_seconds):
            challenger = load_challenger(task, task.pair.champion, task.pair.challenger)
    except Incomparable as error:
        report.why = str(error)
        report.write(task.file)
        return NOTHING_TO_DO
    log.info("shadowing started", extra={"version": challenger.version, "bundle": challenger.hash[:12]})
    with closing(reader):
        Scorer(task, report, reader=reader, challenger=challenger, ended=ended).run(task.pair.champion.bundle)
    return 0


def load_challenger(task: Task, champion: Numbered, challenger: Numbered) -> Predictor:
    """Return the challenger, if it can predict the inputs of the champion."""
    store = open_store(task.settings, task.folder)
    try:
        meta = files.read_meta(store.version(champion.version).folder / "bundle")
        folder = store.bundle(challenger.version)
        _check_comparable(meta, files.read_meta(folder))
        predictor = Predictor.load(folder)
        if predictor.hash != challenger.bundle:
            raise BrokenBundle("The bundle has changed since it was registered.", "Register it again.")
    except (UserError, OSError, MemoryError) as error:
        problem = error.problem if isinstance(error, UserError) else f"{type(error).__name__}."
        raise Incomparable(f"The challenger cannot be loaded: {problem}") from error
    predictor.version = str(challenger.version)
    return predictor


def _check_comparable(champion: dict[str, Any], challenger: dict[str, Any]) -> None:
    kinds = champion["preparer"]["kind"], challenger["preparer"]["kind"]
    if kinds[0] != kinds[1]:
        raise Incomparable(f"The champion takes inputs of kind {kinds[0]}, and the challenger of kind {kinds[1]}.")
    each = champion["decide"]["per"], challenger["decide"]["per"]
    if each[0] != each[1]:
        raise Incomparable(f"The champion decides per {each[0]}, and the challenger per {each[1]}.")
    if set(champion["classes"]) != set(challenger["classes"]):
        raise Incomparable("The challenger has other classes than the champion.")
    if kinds[0] == "table":
        available, needed = ({one["name"] for one in meta["preparer"]["columns"]} for meta in (champion, challenger))
        if absent := sorted(needed - available):
            raise Incomparable(f"The challenger needs columns that requests do not have: {', '.join(absent)}.")


class Scorer:
    """Goes through the stored predictions in order and lets the challenger repeat them."""

    def __init__(
        self, task: Task, report: ShadowReport, *, reader: Reader, challenger: Predictor, ended: threading.Event
    ) -> None:
        self._settings, self._file = task.settings.shadow, task.file
        self._report, self._reader, self._challenger, self._ended = report, reader, challenger, ended
        self._written = self._corrections_read = float("-inf")
        self._changed = True
        self._rested = time.monotonic(), time.process_time()

    def run(self, bundle: str) -> None:
        """Process the predictions of this bundle until the process should end."""
        while not self._ended.is_set():
            try:
                page = self._next_page(bundle)
                self._update_corrections()
            except FeedbackAway as error:
                self._set_reason(f"The feedback database cannot be reached: {error.problem}")
                self._write_if_due(0)
                self._ended.wait(RETRY_SECONDS)
                continue
            self._set_reason(_reason(self._report))
            self._score(page)
            if not page:
                self._write_if_due(POLL_SECONDS)
                self._ended.wait(POLL_SECONDS)
        self._write()

    def _next_page(self, bundle: str) -> list[StoredPrediction]:
        report, max_behind = self._report, self._settings.most_behind
        if report.last is None:
            # A new pair begins with what is stored; after a crash, the backlog that may have caused it is skipped.
            is_new = not (report.tally.scored or report.tally.failed)
            self._go_to(self._reader.back(max_behind if is_new else 0, bundle=bundle))
        seen = settled()
        behind = self._reader.count_after(self._last, bundle=bundle)
        if not behind:
            # The next query need not go through the predictions of other versions.
            report.last = max(report.last or ("", ""), (seen, ""))
        if behind > max_behind:
            self._go_to(self._reader.back(PAGE, bundle=bundle))
            left = self._reader.count_after(self._last, bundle=bundle)
            report.tally.skipped["fallen behind"] += behind - left
            behind = left
        report.behind = behind
        return self._reader.after(self._last, bundle=bundle, limit=PAGE) if behind else []

    @property
    def _last(self) -> Mark:
        at, name = self._report.last or ("", "")
        return Mark(at=at, id=name)

    def _go_to(self, mark: Mark) -> None:
        self._report.last = (mark.at, mark.id)
        self._changed = True

    def _score(self, page: list[StoredPrediction]) -> None:
        for stored in page:
            self._score_one(stored)
            self._go_to(Mark(at=stored.at, id=stored.prediction.id))
            self._report.behind -= 1
            self._set_reason(_reason(self._report))
            self._write_if_due(WRITE_SECONDS)
            self._rest()
            if self._ended.is_set():
                return

    def _rest(self) -> None:
        """Sleep to stay within the share of processor time; time that was not used is not saved up."""
        took, worked = time.monotonic() - self._rested[0], time.process_time() - self._rested[1]
        self._ended.wait(max(0.0, worked / self._settings.share - took))
        self._rested = time.monotonic(), time.process_time()

    def _score_one(self, stored: StoredPrediction) -> None:
        tally = self._report.tally
        try:
            with limited(self._settings.case_seconds * len(stored.addresses)):
                cases: Any = self._reader.inputs_of(stored)
                if cases is None:
                    tally.skipped["input not kept"] += 1
                    return
                if stored.kind == "table":
                    cases = [{name: case[name] for name in self._challenger.preparer.names} for case in cases]
                started = time.process_time()
                (prediction,) = self._challenger.predict(cases, patients=[0] * len(cases))
                seconds = time.process_time() - started
        except FAILURES as error:
            tally.failed[type(error).__name__] += 1
            return
        tally.add(stored.prediction, prediction, at=stored.at, processor_seconds=seconds)

    def _set_reason(self, reason: str | None) -> None:
        self._changed |= reason != self._report.why
        self._report.why = reason

    def _update_corrections(self) -> None:
        if time.monotonic() - self._corrections_read > CORRECTIONS_SECONDS:
            self._corrections_read = time.monotonic()
            tally = self._report.tally
            self._changed |= tally.correct(self._reader.corrected([one["id"] for one in tally.differences]))

    def _write_if_due(self, seconds: float) -> None:
        if self._changed and time.monotonic() - self._written >= seconds:
            self._write()

    def _write(self) -> None:
        self._report.write(self._file)
        self._written, self._changed = time.monotonic(), False


def _reason(report: ShadowReport) -> str | None:
    """Return the reason why nothing was scored, or None if something was."""
    tally = report.tally
    if tally.scored:
        return None
    if tally.failed:
        kinds = ", ".join(f"{kind} {count} times" for kind, count in tally.failed.items())
        return f"The challenger failed: {kinds}."
    if tally.skipped["input not kept"]:
        return "The inputs of the predictions are no longer stored."
    return None if report.behind else "The champion has made no prediction yet."


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Let the system end this process if the block takes longer, even in native code."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * ELAPSED_FACTOR)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(memory_mib: float) -> None:
    """Limit the memory that may be added from here on, and write no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + int(memory_mib * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _lock_report(task: Task, ended: threading.Event, stack: ExitStack) -> bool:
    """Wait for the lock of the report, which a previous process may still hold; return whether it was acquired."""
    while not ended.is_set():
        try:
            stack.enter_context(file_lock(task.file.with_name(".lock"), wait=False))
        except UserError:
            ended.wait(POLL_SECONDS)
        else:
            return True
    return False


def _open_reader(task: Task, ended: threading.Event) -> Reader:
    while True:
        try:
            return Reader(task.settings.feedback, root=task.folder)
        except FeedbackAway as error:
            if ended.wait(RETRY_SECONDS):
                raise Incomparable("The feedback database cannot be reached.") from error
        except UserError as error:
            raise Incomparable(error.problem) from error


def _watch_parent(ended: threading.Event) -> None:
    # Not through sys.stdin: the interpreter would wait for its lock when it exits.
    while os.read(0, 4096):
        pass
    ended.set()
    # Time for the current case and a last report, but no more if the challenger hangs.
    time.sleep(END_SECONDS)
    os._exit(0)
