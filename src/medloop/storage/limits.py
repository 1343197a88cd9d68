"""How much may come from one place, and the meter that counts what really comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medloop.errors import RejectedInput

OnBytes = Callable[[int, int | None], None]
"""Told how many bytes came so far, and how many are expected where that is known."""

# A few kilobytes of zeros pack better than any bomb, so small contents are not judged by their ratio.
SMALL = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one archive, download or prefix may hold; archives inside archives stay packed."""

    max_bytes: int = 20 * 2**30
    max_entries: int = 200_000
    max_ratio: float = 200.0


class Meter:
    """Counts bytes and entries as they come, because declared sizes may lie."""

    def __init__(self, limits: Limits, *, what: str, packed: int | None = None) -> None:
        self.limits, self.what, self.packed = limits, what, packed
        self.bytes = self.entries = 0

    def add_bytes(self, count: int) -> None:
        """Count bytes that came."""
        self.bytes += count
        self.expect_bytes(self.bytes)
        if self.packed and self.bytes > max(SMALL, self.limits.max_ratio * self.packed):
            raise RejectedInput(
                f"an archive must not unpack to more than {self.limits.max_ratio:g} times its size",
                found=f"{self.what}: {self.packed:,} bytes unpack to more than {self.bytes:,}",
                hint="check where it comes from; if it is right, raise storage.max_ratio in the settings",
            )

    def expect_bytes(self, total: int) -> None:
        """Refuse a total that was announced and is too large."""
        if total > self.limits.max_bytes:
            raise RejectedInput(
                f"one place must not hold more than {self.limits.max_bytes:,} bytes",
                found=f"{self.what} holds at least {total:,}",
                hint="check where it comes from; if it is right, raise storage.max_gib in the settings",
            )

    def add_entries(self, count: int = 1) -> None:
        """Count entries that came."""
        self.entries += count
        if self.entries > self.limits.max_entries:
            raise RejectedInput(
                f"one place must not hold more than {self.limits.max_entries:,} entries",
                found=f"{self.what} holds at least {self.entries:,}",
                hint="check where it comes from; if it is right, raise storage.max_entries in the settings",
            )
