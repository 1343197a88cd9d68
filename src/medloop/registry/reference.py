"""The reference version: the first approved one; later versions are compared with it and with the champion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medloop.case import Verdict
    from medloop.registry.version import Champion, Version

REFERENCE = "reference.json"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The version to which later ones are non-inferior by the margin, the time since when, and who set it."""

    version: int
    bundle: str
    since: str
    by: str


def first_approved(versions: Iterable[Version], champion: Champion) -> Reference | None:
    """Return the first version that served, as far as the store of an older medloop shows."""
    known = list(versions)
    served = {champion.version, champion.previous}
    served |= {one.verdict.champion.get("version") for one in known if one.verdict.champion is not None}
    for one in known:
        if one.number in served or _served_at_once(one.verdict):
            return Reference(version=one.number, bundle=one.bundle, since=one.created, by=one.by)
    return None


def _served_at_once(verdict: Verdict) -> bool:
    """Return whether the version was promoted on registration."""
    return verdict.passed and not verdict.smoke and not verdict.gate.get("second_person")
