"""A registered version, what names it wherever it lies, and the pointer to the one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medloop.case import Verdict


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A version, and the hash of its bundle."""

    version: int
    bundle: str


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered model."""

    number: int
    folder: Path
    bundle: str
    verdict: Verdict
    created: str
    by: str = ""

    @property
    def numbered(self) -> Numbered:
        """What names it wherever it lies."""
        return Numbered(version=self.number, bundle=self.bundle)

    @property
    def may_shadow(self) -> bool:
        """Whether the gate let it pass, after a full run."""
        return self.verdict.passed and not self.verdict.smoke


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What serves, since when, by whom, and what served before; the counter grows with each change."""

    version: int
    bundle: str
    previous: int | None
    promoted: str
    by: str
    # A pointer of an older medloop has none.
    counter: int = 0
