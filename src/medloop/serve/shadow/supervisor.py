"""Starts and supervises the shadow process, and gives up on a challenger that keeps crashing it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from medloop.registry.store import CHALLENGER, POINTER, ModelStore
from medloop.serve.shadow.report import NOTHING_TO_DO, Pair, ShadowReport, Task, report_path
from medloop.settings import Settings
from medloop.storage.objects import StorageAway

log = logging.getLogger("medloop.shadow")

FIRST_PAUSE_SECONDS = 2.0
MAX_CRASHES = 5
# A process that has run this long did not crash because of the challenger as such.
STABLE_SECONDS = 600.0
END_SECONDS = 3.0
JOIN_SECONDS = 10.0
TIMEOUT_SIGNALS = (signal.SIGPROF, signal.SIGALRM)

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from medloop.serve.shadow.process import main; main()"
# Numeric libraries would exceed the budget with their own threads.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Stamp = tuple[int, ...]


class ShadowSupervisor:
    """Runs at most one process, for the current pair; a thread checks on it at intervals."""

    def __init__(self, settings: Settings, *, folder: Path, store: ModelStore) -> None:
        self._settings, self._folder, self._store = settings, folder, store
        self._file = report_path(settings, folder)
        self._seen: Stamp | None = None
        self._pair = Pair()
        self._process: ShadowProcess | None = None
        self._crashes = 0
        self._not_before = 0.0
        self._idle = True
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medloop-shadowing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        # A download in progress need not finish.
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        # The first check comes late, so that the first request does not have to wait for it.
        while not self._ended.wait(self._settings.serve.watch_seconds or self._store.watch_seconds):
            try:
                self._check()
            except Exception as error:  # noqa: BLE001 - a challenger must not stop the service
                log.error("the challenger cannot be followed", extra={"kind": type(error).__name__})  # noqa: TRY400
        self._stop()

    def _check(self) -> None:
        if self._settings.shadow.enabled:
            # The watcher of the champion logs that the object store is unreachable.
            with suppress(StorageAway):
                self._store.follow_challenger()
        stamp = self._pointer_stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._switch_to(Pair.of(self._store))
        if self._process is not None:
            code = self._process.code()
            if code is not None:
                self._handle_exit(code, seconds=time.monotonic() - self._process.started)
        elif not self._idle and time.monotonic() >= self._not_before:
            self._start()

    def _pointer_stamp(self) -> Stamp:
        """Return a value that changes with the pointers and with the list of versions."""
        found = []
        for path in (self._store.versions_folder, self._store.folder / POINTER, self._store.folder / CHALLENGER):
            with suppress(OSError):
                state = path.stat()
                found += [state.st_mtime_ns, state.st_ino]
        return tuple(found)

    def _switch_to(self, pair: Pair) -> None:
        if pair == self._pair and not self._idle:
            return
        self._stop()
        self._pair, self._crashes, self._not_before = pair, 0, 0.0
        reason = self._reason_to_idle()
        self._idle = reason is not None
        if reason:
            self._report(reason)

    def _reason_to_idle(self) -> str | None:
        if not self._settings.shadow.enabled:
            return "Shadowing is switched off (shadow.enabled)."
        if self._pair.champion is None:
            return "No version has been promoted yet."
        if self._pair.challenger is None:
            return "There is no challenger: no version has been registered since the champion was promoted."
        if not self._settings.feedback.keep_inputs:
            return "Inputs are not kept (feedback.keep_inputs), and a challenger needs them."
        return None

    def _start(self) -> None:
        self._process = ShadowProcess(Task(settings=self._settings, folder=self._folder, pair=self._pair))

    def _handle_exit(self, code: int, *, seconds: float) -> None:
        self._stop()
        if code == NOTHING_TO_DO:
            self._idle = True
            return
        self._crashes = 1 if seconds > STABLE_SECONDS else self._crashes + 1
        self._not_before = time.monotonic() + FIRST_PAUSE_SECONDS * 2 ** (self._crashes - 1)
        kind = describe_exit(code)
        log.warning("the shadow process ended", extra={"kind": kind, "crashes": self._crashes})
        self._idle = self._crashes >= MAX_CRASHES
        gave_up = f"Shadowing was given up, because the process of the challenger crashed {MAX_CRASHES} times."
        self._report(gave_up if self._idle else None, crash=kind)

    def _report(self, reason: str | None, *, crash: str | None = None) -> None:
        """Write to the report, which nothing else writes while there is no process."""
        report = ShadowReport.read(self._file, self._pair)
        report.why = reason
        if crash:
            report.tally.failed[crash] += 1
            # The next process skips the predictions that may have crashed this one.
            report.last = None
        report.write(self._file)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.end()
        self._process = None


class ShadowProcess:
    """The shadow process; it ends when its standard input closes, even because this process was killed."""

    def __init__(self, task: Task) -> None:
        self.started = time.monotonic()
        standard_input, pipe = os.pipe()
        self._pipe = open(pipe, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - stays open until the end
        try:
            # In the session of the service, so that its priority is compared with the service's, but in a process
            # group of its own, so that Ctrl-C reaches the service only.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *sys.path],
                stdin=standard_input,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                process_group=0,
            )
        finally:
            os.close(standard_input)
        if task.settings.shadow.idle:
            lower_priority(self._process.pid)
        with suppress(BrokenPipeError):
            self._pipe.write(task.to_json())
            self._pipe.flush()

    def code(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Let the process write its report and end; kill it if it hangs."""
        with suppress(BrokenPipeError):
            self._pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def describe_exit(code: int) -> str:
    """Return the reason why a process ended."""
    if -code in TIMEOUT_SIGNALS:
        return "hung"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def lower_priority(process: int) -> None:
    """Let a process run only when the processor is idle."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, 19)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
