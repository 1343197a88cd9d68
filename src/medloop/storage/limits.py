"""Limits on what one place may hold, and the meter that counts what is really read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medloop.errors import RejectedInput

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes read so far, and the expected total if it is known."""

GIB = 2**30
# A few kilobytes of zeros compress better than any bomb, so the ratio of small contents is not checked.
MIN_CHECKED_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one archive, download or prefix may hold; archives inside archives stay packed."""

    max_bytes: int = 50 * GIB
    max_entries: int = 500_000
    max_ratio: float = 200.0


class Meter:
    """Count bytes and entries as they are read, because declared sizes can be wrong."""

    def __init__(self, limits: Limits, *, what: str, packed: int | None = None) -> None:
        self.limits, self.what, self.packed = limits, what, packed
        self.bytes = self.entries = 0

    def add_bytes(self, count: int) -> None:
        """Count bytes that were read."""
        self.bytes += count
        self.expect_bytes(self.bytes)
        if self.packed and self.bytes > max(MIN_CHECKED_BYTES, self.limits.max_ratio * self.packed):
            raise RejectedInput(
                f"{self.what} unpacks from {self.packed:,} to more than {self.bytes:,} bytes, above the "
                f"allowed ratio of {self.limits.max_ratio:g}.",
                "Check where it comes from; if it is right, raise `storage.max_ratio` in the settings.",
            )

    def expect_bytes(self, total: int) -> None:
        """Refuse a declared total that is too large."""
        if total > self.limits.max_bytes:
            raise RejectedInput(
                f"{self.what} has at least {total:,} bytes; {self.limits.max_bytes:,} are allowed.",
                "Check where it comes from; if it is right, raise `storage.max_gib` in the settings.",
            )

    def add_entries(self, count: int = 1) -> None:
        """Count entries that were read."""
        self.entries += count
        if self.entries > self.limits.max_entries:
            raise RejectedInput(
                f"{self.what} has at least {self.entries:,} entries; {self.limits.max_entries:,} are allowed.",
                "Check where it comes from; if it is right, raise `storage.max_entries` in the settings.",
            )
