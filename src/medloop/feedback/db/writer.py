"""Group commit: one thread writes what all others submit, everything that is waiting at once."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from medloop.feedback.records import FeedbackAway

LOG = logging.getLogger(__name__)
MAX_QUEUED = 10_000
MAX_GROUP = 500
# A commit costs as much CPU time as ten predictions, so it may wait this long for more of them to share it.
MAX_WAIT_S = 0.01

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Ticket(Generic[Item]):
    """The items of one caller, and the future that reports their commit."""

    items: Sequence[Item]
    done: Future[None] = field(default_factory=Future)


class Writer(Generic[Item]):
    """The queue of the thread that writes."""

    def __init__(self, write: Callable[[list[Item]], None]) -> None:
        self._write = write
        self._tickets: deque[Ticket[Item]] = deque()
        self._queued = 0
        self._enough = 1
        self._closed = False
        self._done = False
        self._changed = threading.Condition(threading.Lock())
        self._thread = threading.Thread(target=self._run, name="medloop-feedback", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Return how many items are waiting."""
        return self._queued

    @property
    def alive(self) -> bool:
        """Return whether the writing thread is running."""
        return self._thread.is_alive()

    def submit(self, items: Sequence[Item], *, enough: int = 1) -> Future[None]:
        """Queue items; the future is done when they are durable. The writer starts early once `enough` are queued."""
        ticket = Ticket(items=items)
        # From here on it cannot be cancelled: accepted items are written.
        ticket.done.set_running_or_notify_cancel()
        if not items:
            ticket.done.set_result(None)
            return ticket.done
        with self._changed:
            if self._closed or self._queued + len(items) > MAX_QUEUED:
                reason = "is closed" if self._closed else f"is overloaded ({self._queued:,} writes are waiting)"
                raise FeedbackAway(
                    f"The feedback store {reason}.", "Send fewer requests at once, or try again in a few seconds."
                )
            self._tickets.append(ticket)
            self._queued += len(items)
            self._enough = enough
            # The first starts the wait for others; those in between need not wake the writer.
            if len(self._tickets) == 1 or self._queued >= enough:
                self._changed.notify()
        return ticket.done

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._done:
            try:
                while group := self._next_group():
                    self._write_group(group)
                self._done = True
            except Exception as error:  # noqa: BLE001 - if the thread ended, all callers would wait forever
                LOG.error("the thread that writes predictions failed (%s) and continues", type(error).__name__)  # noqa: TRY400

    def _next_group(self) -> list[Ticket[Item]]:
        """Return all waiting tickets, up to a limit; none when the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._tickets or self._closed)
            self._changed.wait_for(lambda: self._queued >= self._enough or self._closed, MAX_WAIT_S)
            group: list[Ticket[Item]] = []
            size = 0
            while self._tickets and (not group or size + len(self._tickets[0].items) <= MAX_GROUP):
                group.append(self._tickets.popleft())
                size += len(group[-1].items)
            self._queued -= size
            return group

    def _write_group(self, group: list[Ticket[Item]]) -> None:
        try:
            self._write([item for ticket in group for item in ticket.items])
        except BaseException as error:  # noqa: BLE001 - every waiting caller has to get the error
            if len(group) == 1:
                group[0].done.set_exception(error)
                return
            # An error of one caller must not affect the others.
            for ticket in group:
                self._write_group([ticket])
        else:
            for ticket in group:
                ticket.done.set_result(None)
