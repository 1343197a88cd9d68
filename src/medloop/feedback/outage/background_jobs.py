"""Background jobs that run periodically on a thread that no failure ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from medloop.errors import UserError
from medloop.feedback.db.faults import is_away

LOG = logging.getLogger(__name__)
INTERVAL_S = 1.0


class BackgroundJobs:
    """Runs each job every second; a failure is logged once, and the job is retried."""

    def __init__(self, jobs: Mapping[str, Callable[[], None]]) -> None:
        self._jobs = jobs
        self._failing: dict[str, str] = {}
        self._bugs: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medloop-feedback-keeper", daemon=True)

    @property
    def fault(self) -> str | None:
        """Return which job fails because of a bug, or None; outside causes are temporary."""
        if not self._thread.is_alive():
            return "the thread for the background jobs of the feedback store has ended"
        return next((f"{job} fails ({kind})" for job, kind in list(self._bugs.items())), None)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the current job."""
        self._ended.set()
        self._thread.join()

    def attempt(self, job: str) -> None:
        """Run one job now."""
        try:
            self._jobs[job]()
        except Exception as error:  # noqa: BLE001 - the other jobs must continue
            kind = type(error).__name__
            if not (isinstance(error, UserError) or is_away(error)):
                self._bugs[job] = kind
            if self._failing.get(job) != kind:
                LOG.warning("%s failed (%s) and will be retried", job, kind)
            self._failing[job] = kind
        else:
            self._bugs.pop(job, None)
            if self._failing.pop(job, None):
                LOG.warning("%s works again", job)

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            for job in self._jobs:
                self.attempt(job)
