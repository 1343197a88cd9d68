"""Starts the shadow's process beside the service, looks after it, and gives a challenger up that it keeps dying of."""

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
from medloop.serve.shadow_report import NOTHING_TO_DO, Pair, ShadowReport, Task, file_of
from medloop.settings import Settings
from medloop.storage.objects import StorageAway

log = logging.getLogger("medloop.shadow")

FIRST_PAUSE_SECONDS = 2.0
MOST_DEATHS = 5
# Whoever has lived for so long did not die of the challenger as such.
LONG_LIFE_SECONDS = 600.0
END_SECONDS = 3.0
JOIN_SECONDS = 10.0
HUNG = (signal.SIGPROF, signal.SIGALRM)

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from medloop.serve.shadow import main; main()"
# Threads of a library for arithmetic would take what the budget does not give.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Stamp = tuple[int, ...]


class Shadowing:
    """One process at most, for the pair of now; a thread that sleeps nearly always looks after it."""

    def __init__(self, settings: Settings, *, folder: Path, store: ModelStore) -> None:
        self._settings, self._folder, self._store = settings, folder, store
        self._file = file_of(settings, folder)
        self._seen: Stamp | None = None
        self._pair = Pair()
        self._process: ShadowProcess | None = None
        self._deaths = 0
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
        # What it fetches just then need not come to its end.
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        # The first look comes late, so that the service's first answer does not wait for it.
        while not self._ended.wait(self._settings.serve.watch_seconds or self._store.watch_seconds):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever a challenger does, the service goes on
                log.error("the challenger cannot be followed", extra={"kind": type(error).__name__})  # noqa: TRY400
        self._stop()

    def _look(self) -> None:
        if self._settings.shadow.enabled:
            # Whoever follows the champion says that the object store is away.
            with suppress(StorageAway):
                self._store.follow_challenger()
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._turn_to(Pair.of(self._store))
        if self._process is not None:
            code = self._process.code()
            if code is not None:
                self._bury(code, lived=time.monotonic() - self._process.born)
        elif not self._idle and time.monotonic() >= self._not_before:
            self._start()

    def _stamp(self) -> Stamp:
        """Changes with the pointers and with every version that comes or goes."""
        found = []
        for path in (self._store.versions_folder, self._store.folder / POINTER, self._store.folder / CHALLENGER):
            with suppress(OSError):
                state = path.stat()
                found += [state.st_mtime_ns, state.st_ino]
        return tuple(found)

    def _turn_to(self, pair: Pair) -> None:
        if pair == self._pair and not self._idle:
            return
        self._stop()
        self._pair, self._deaths, self._not_before = pair, 0, 0.0
        why = self._why_not()
        self._idle = why is not None
        if why:
            self._say(why)

    def _why_not(self) -> str | None:
        if not self._settings.shadow.enabled:
            return "it is switched off (shadow.enabled)"
        if self._pair.champion is None:
            return "no version has been promoted yet"
        if self._pair.challenger is None:
            return "there is no challenger: no version has been registered since the champion"
        if not self._settings.feedback.keep_inputs:
            return "inputs are not kept (feedback.keep_inputs), and a challenger can be asked only what is kept"
        return None

    def _start(self) -> None:
        self._process = ShadowProcess(Task(settings=self._settings, folder=self._folder, pair=self._pair))

    def _bury(self, code: int, *, lived: float) -> None:
        self._stop()
        if code == NOTHING_TO_DO:
            self._idle = True
            return
        self._deaths = 1 if lived > LONG_LIFE_SECONDS else self._deaths + 1
        self._not_before = time.monotonic() + FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1)
        kind = death_of(code)
        log.warning("the shadow died", extra={"kind": kind, "deaths": self._deaths})
        self._idle = self._deaths >= MOST_DEATHS
        self._say(f"the challenger was given up: its process died {MOST_DEATHS} times" if self._idle else None, kind)

    def _say(self, why: str | None, died: str | None = None) -> None:
        """Into the file, which nobody else writes while there is no process."""
        report = ShadowReport.read(self._file, self._pair)
        report.why = why
        if died:
            report.tally.failed[died] += 1
            # The next one does not begin with what this one may have died of.
            report.last = None
        report.write(self._file)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.end()
        self._process = None


class ShadowProcess:
    """The process, held by a pipe: when that closes, even because this process was killed, it ends."""

    def __init__(self, task: Task) -> None:
        self.born = time.monotonic()
        standard_input, leash = os.pipe()
        self._leash = open(leash, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - held until the end
        try:
            # In the session of the service, for only there its priority counts against the service's; not in the
            # terminal's foreground, for Ctrl-C is the service's to handle.
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
            lower(self._process.pid)
        with suppress(BrokenPipeError):
            self._leash.write(task.to_json())
            self._leash.flush()

    def code(self) -> int | None:
        """The exit code, once it has ended."""
        return self._process.poll()

    def end(self) -> None:
        """Let it write its last word; where it hangs it gets none."""
        with suppress(BrokenPipeError):
            self._leash.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def death_of(code: int) -> str:
    """Why a process ended."""
    if -code in HUNG:
        return "hung"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def lower(process: int) -> None:
    """Lets a process run only on what others leave idle."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, 19)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
