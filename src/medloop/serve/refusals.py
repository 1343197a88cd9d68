"""Refusals of the service itself: come again, too large, too slow, not yours."""

from __future__ import annotations

from medloop.errors import UserError


class Busy(UserError):
    """The service has as much to do as it takes on."""

    http_status = 503
    retry_after = 1

    def __init__(self, found: str) -> None:
        super().__init__("the service must have room for a request", found=found, hint="send it again in a second")


class TooOften(UserError):
    """One key asks more than its share."""

    http_status = 429
    retry_after = 1


class TooLarge(UserError):
    """More bytes or files than the service takes."""

    http_status = 413


class TooSlow(UserError):
    """A body that does not arrive in time."""

    http_status = 408


class NoKey(UserError):
    """Nobody that the service knows."""

    http_status = 401


class NotAllowed(UserError):
    """Somebody that the service knows, who may not do this."""

    http_status = 403


class Misdirected(UserError):
    """A request for another host."""

    http_status = 421
