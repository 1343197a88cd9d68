"""Times as people read them; they are stored in UTC."""

from __future__ import annotations

from datetime import datetime, timezone


def local_time(stored: str) -> str:
    """A stored time in this machine's zone, which it names; what is no time with a zone is returned as it is."""
    try:
        time = datetime.fromisoformat(stored)
    except ValueError:
        return stored
    if time.tzinfo is None:
        return stored
    local = time.astimezone()
    # By its distance from UTC, since an abbreviation may stand for several zones.
    zone = timezone(offset) if (offset := local.utcoffset()) else "UTC"
    return f"{local:%Y-%m-%d %H:%M:%S} {zone}"
