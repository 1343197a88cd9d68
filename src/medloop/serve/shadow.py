"""The process in which a challenger answers what the champion has answered; it may die or hang, for nobody waits."""

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
from medloop.feedback.reading import Mark, Reader, settled
from medloop.registry.mirror import open_store
from medloop.registry.store import Numbered
from medloop.serve.logs import log_to_stderr
from medloop.serve.shadow_report import NOTHING_TO_DO, ShadowReport, Task
from medloop.storage import file_lock

log = logging.getLogger("medloop.shadow")

PAGE = 50
LOOK_SECONDS = 1.0
WRITE_SECONDS = 5.0
CORRECTED_SECONDS = 60.0
AWAY_SECONDS = 10.0
END_SECONDS = 2.0
# Where the service leaves little idle, the work of a second takes many.
WAITING = 20
# What a challenger may fail with and go on.
FAILURES: tuple[type[Exception], ...] = (*MISFITS, MemoryError, OSError)


class Incomparable(Exception):
    """A plain sentence why the challenger cannot be asked."""


def main() -> None:
    """Score until the parent closes the standard input, or is gone."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    task = Task.from_json(sys.stdin.readline())
    ended = threading.Event()
    threading.Thread(target=_watch_parent, args=(ended,), daemon=True).start()
    with ExitStack() as stack:
        if _is_alone(task, ended, stack):
            cv2.setNumThreads(1)
            confine(task.settings.shadow.memory_mib)
            sys.exit(shadow(task, ended))


def shadow(task: Task, ended: threading.Event) -> int:
    """Score until it ends; the exit code."""
    report = ShadowReport.read(task.file, task.pair)
    try:
        if task.pair.champion is None or task.pair.challenger is None:
            raise Incomparable("there are no two versions to compare")
        reader = _open_reader(task, ended)
        with limited(task.settings.shadow.case_seconds):
            challenger = load_challenger(task, task.pair.champion, task.pair.challenger)
    except Incomparable as error:
        report.why = str(error)
        report.write(task.file)
        return NOTHING_TO_DO
    log.info("a challenger shadows", extra={"version": challenger.version, "bundle": challenger.hash[:12]})
    with closing(reader):
        Scorer(task, report, reader=reader, challenger=challenger, ended=ended).run(task.pair.champion.bundle)
    return 0


def load_challenger(task: Task, champion: Numbered, challenger: Numbered) -> Predictor:
    """The challenger, if it can answer what the champion is asked."""
    store = open_store(task.settings, task.folder)
    try:
        asked = files.read_meta(store.version(champion.version).folder / "bundle")
        folder = store.bundle(challenger.version)
        _check_comparable(asked, files.read_meta(folder))
        predictor = Predictor.load(folder)
        if predictor.hash != challenger.bundle:
            raise BrokenBundle("a bundle must be as it was registered", found="other bytes", hint="register it again")
    except (UserError, OSError, MemoryError) as error:
        found = error.found if isinstance(error, UserError) else type(error).__name__
        raise Incomparable(f"the challenger cannot be loaded: {found}") from error
    predictor.version = str(challenger.version)
    return predictor


def _check_comparable(champion: dict[str, Any], challenger: dict[str, Any]) -> None:
    kinds = champion["preparer"]["kind"], challenger["preparer"]["kind"]
    if kinds[0] != kinds[1]:
        raise Incomparable(f"the champion's kind of input is {kinds[0]}, and the challenger's is {kinds[1]}")
    each = champion["decide"]["per"], challenger["decide"]["per"]
    if each[0] != each[1]:
        raise Incomparable(f"the champion decides per {each[0]}, and the challenger per {each[1]}")
    if set(champion["classes"]) != set(challenger["classes"]):
        raise Incomparable("the challenger knows other classes than the champion")
    if kinds[0] == "table":
        asked, wanted = ({one["name"] for one in meta["preparer"]["columns"]} for meta in (champion, challenger))
        if absent := sorted(wanted - asked):
            raise Incomparable(f"the challenger needs columns that the champion is not asked with: {', '.join(absent)}")


class Scorer:
    """Goes through the answers in order and lets the challenger answer, too."""

    def __init__(
        self, task: Task, report: ShadowReport, *, reader: Reader, challenger: Predictor, ended: threading.Event
    ) -> None:
        self._settings, self._file = task.settings.shadow, task.file
        self._report, self._reader, self._challenger, self._ended = report, reader, challenger, ended
        self._written = self._corrected = float("-inf")
        self._changed = True
        self._rested = time.monotonic(), time.process_time()

    def run(self, bundle: str) -> None:
        """All that this bundle answers, until it ends."""
        while not self._ended.is_set():
            try:
                page = self._next_page(bundle)
                self._look_at_corrections()
            except FeedbackAway as error:
                self._explain(f"the feedback database does not answer: {error.found}")
                self._write_if_due(0)
                self._ended.wait(AWAY_SECONDS)
                continue
            self._explain(_why(self._report))
            self._score(page)
            if not page:
                self._write_if_due(LOOK_SECONDS)
                self._ended.wait(LOOK_SECONDS)
        self._write()

    def _next_page(self, bundle: str) -> list[StoredPrediction]:
        report, most = self._report, self._settings.most_behind
        if report.last is None:
            # Of a new pair what is kept already is told at once; what a predecessor died of is left behind.
            is_new = not (report.tally.scored or report.tally.failed)
            self._go_to(self._reader.back(most if is_new else 0, bundle=bundle))
        seen = settled()
        behind = self._reader.count_after(self._last, bundle=bundle)
        if not behind:
            # So that the next look need not go through all that others have answered.
            report.last = max(report.last or ("", ""), (seen, ""))
        if behind > most:
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
            self._explain(_why(self._report))
            self._write_if_due(WRITE_SECONDS)
            self._rest()
            if self._ended.is_set():
                return

    def _rest(self) -> None:
        """As long as the budget wants after what was done since the last rest; what was not used is not saved up."""
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
                (answer,) = self._challenger.predict(cases, patients=[0] * len(cases))
                seconds = time.process_time() - started
        except FAILURES as error:
            tally.failed[type(error).__name__] += 1
            return
        tally.add(stored.prediction, answer, at=stored.at, processor_seconds=seconds)

    def _explain(self, why: str | None) -> None:
        self._changed |= why != self._report.why
        self._report.why = why

    def _look_at_corrections(self) -> None:
        if time.monotonic() - self._corrected > CORRECTED_SECONDS:
            self._corrected = time.monotonic()
            tally = self._report.tally
            self._changed |= tally.correct(self._reader.corrected([one["id"] for one in tally.differences]))

    def _write_if_due(self, seconds: float) -> None:
        if self._changed and time.monotonic() - self._written >= seconds:
            self._write()

    def _write(self) -> None:
        self._report.write(self._file)
        self._written, self._changed = time.monotonic(), False


def _why(report: ShadowReport) -> str | None:
    """Why nothing was scored, where nothing was."""
    tally = report.tally
    if tally.scored:
        return None
    if tally.failed:
        kinds = ", ".join(f"{kind} {count} times" for kind, count in tally.failed.items())
        return f"the challenger could not answer: {kinds}"
    if tally.skipped["input not kept"]:
        return "the inputs of the answers are not kept any more"
    return None if report.behind else "the champion has not answered anything yet"


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """The system ends this process if the block takes longer, whatever code it is in."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def confine(memory_mib: float) -> None:
    """From here on so much more memory may be taken, and a crash leaves no picture of it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + int(memory_mib * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _is_alone(task: Task, ended: threading.Event, stack: ExitStack) -> bool:
    """Wait for the result to be this process's own to write: a predecessor may not have ended yet."""
    while not ended.is_set():
        try:
            stack.enter_context(file_lock(task.file.with_name(".lock"), wait=False))
        except UserError:
            ended.wait(LOOK_SECONDS)
        else:
            return True
    return False


def _open_reader(task: Task, ended: threading.Event) -> Reader:
    while True:
        try:
            return Reader(task.settings.feedback, root=task.folder)
        except FeedbackAway as error:
            if ended.wait(AWAY_SECONDS):
                raise Incomparable("the feedback database does not answer") from error
        except UserError as error:
            raise Incomparable(f"{error.must}; found: {error.found}") from error


def _watch_parent(ended: threading.Event) -> None:
    # Not through sys.stdin, whose lock an interpreter that ends would wait for.
    while os.read(0, 4096):
        pass
    ended.set()
    # Time for the case at hand and a last word; a challenger that hangs gets no more.
    time.sleep(END_SECONDS)
    os._exit(0)
