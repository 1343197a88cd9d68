"""Times: stored in UTC, shown in this machine's zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

NO_SHIFT = timedelta(0)


def utc_now(*, shift: timedelta = NO_SHIFT) -> str:
    """Return the time in UTC, shifted if asked, to the microsecond; such texts sort by time."""
    return (datetime.now(UTC) + shift).isoformat(timespec="microseconds")


def utc_now_seconds() -> str:
    """Return the time in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def local_time(stored: str) -> str:
    """Return a stored time in this machine's zone, which it names; other text is returned unchanged."""
    try:
        time = datetime.fromisoformat(stored)
    except ValueError:
        return stored
    if time.tzinfo is None:
        return stored
    local = time.astimezone()
    # The offset from UTC, because one abbreviation can name several zones.
    zone = timezone(offset) if (offset := local.utcoffset()) else "UTC"
    return f"{local:%Y-%m-%d %H:%M:%S} {zone}"
