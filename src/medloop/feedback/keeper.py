"""Work that is done again and again beside the requests, in a thread that no failure ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from medloop.errors import UserError
from medloop.feedback.faults import is_away

LOG = logging.getLogger(__name__)
RETRY_S = 1.0


class Keeper:
    """Does each job every second; one that fails is logged once, and tried again."""

    def __init__(self, jobs: Mapping[str, Callable[[], None]]) -> None:
        self._jobs = jobs
        self._failing: dict[str, str] = {}
        self._bugs: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medloop-feedback-keeper", daemon=True)

    @property
    def fault(self) -> str | None:
        """Which job fails by a bug, if one does; what the outside world does passes."""
        if not self._thread.is_alive():
            return "the thread that looks after the feedback store has ended"
        return next((f"{job} fails ({kind})" for job, kind in list(self._bugs.items())), None)

    def start(self) -> None:
        """Begin with the jobs."""
        self._thread.start()

    def close(self) -> None:
        """End after the job that is being done."""
        self._ended.set()
        self._thread.join()

    def attempt(self, job: str) -> None:
        """Do one job now."""
        try:
            self._jobs[job]()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
            kind = type(error).__name__
            if not (isinstance(error, UserError) or is_away(error)):
                self._bugs[job] = kind
            if self._failing.get(job) != kind:
                LOG.warning("%s failed (%s); it is tried again", job, kind)
            self._failing[job] = kind
        else:
            self._bugs.pop(job, None)
            if self._failing.pop(job, None):
                LOG.warning("%s works again", job)

    def _run(self) -> None:
        while not self._ended.wait(RETRY_S):
            for job in self._jobs:
                self.attempt(job)
