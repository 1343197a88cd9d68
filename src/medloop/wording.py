"""Small pieces of text that several packages write."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Return the count with the noun: 1 case, 2 cases."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
