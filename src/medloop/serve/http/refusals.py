"""Errors of the service itself: busy, too large, too slow, not allowed."""

from __future__ import annotations

from medloop.errors import UserError

SEE_DOCS = "See /docs for the form of a request."


class Busy(UserError):
    """The service has no capacity for a request at the moment."""

    http_status = 503
    retry_after = 1

    def __init__(self, problem: str) -> None:
        super().__init__(problem, "Send the request again in a second.")


class TooOften(UserError):
    """One caller sends more requests than it may."""

    http_status = 429
    retry_after = 1


class TooLarge(UserError):
    """A request has more bytes, files or values than the service accepts."""

    http_status = 413


class TooSlow(UserError):
    """A body did not arrive in time."""

    http_status = 408


class NoKey(UserError):
    """A request has no valid key."""

    http_status = 401


class NotAllowed(UserError):
    """The caller is known but may not do this."""

    http_status = 403


class Misdirected(UserError):
    """A request is for another host."""

    http_status = 421
