"""The records of the model store: a version, its number and bundle, and the champion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from medloop.case import Verdict


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A version's number and the hash of its bundle."""

    version: int
    bundle: str


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered model."""

    number: int
    folder: Path
    bundle: str
    verdict: Verdict
    created: str
    by: str = ""

    @property
    def numbered(self) -> Numbered:
        """Return its number and bundle, which identify it in any store."""
        return Numbered(version=self.number, bundle=self.bundle)

    @property
    def may_shadow(self) -> bool:
        """Return whether it passed the gate after a full run."""
        return self.verdict.passed and not self.verdict.smoke


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version that serves, when and by whom it was promoted, and the previous one; the counter grows each time."""

    version: int
    bundle: str
    previous: int | None
    promoted: str
    by: str
    # A pointer of an older medloop has none.
    counter: int = 0


def has_declared_types(record: Any) -> bool:
    """Return whether each field of a dataclass has its declared type; neither a bool nor a float is an int."""
    hints = get_type_hints(type(record))
    return all(type(getattr(record, name)) in _types_of(hint) for name, hint in hints.items())


def _types_of(hint: Any) -> list[Any]:
    """Return the types that a hint allows, without those of a container's content."""
    alternatives = get_args(hint) if get_origin(hint) not in (dict, list, tuple) else (hint,)
    return [get_origin(one) or one for one in alternatives or (hint,)]
