"""The reference version: the first approved one, which every later version is compared with beside the champion."""

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
    """The version that no later one may be worse than by more than the margin, since when, and who set it."""

    version: int
    bundle: str
    since: str
    by: str


def first_approved(versions: Iterable[Version], champion: Champion) -> Reference | None:
    """The first version that served, as far as the store of an older medloop tells."""
    known = list(versions)
    served = {champion.version, champion.previous}
    served |= {one.verdict.champion.get("version") for one in known if one.verdict.champion is not None}
    for one in known:
        if one.number in served or _served_at_once(one.verdict):
            return Reference(version=one.number, bundle=one.bundle, since=one.created, by=one.by)
    return None


def _served_at_once(verdict: Verdict) -> bool:
    """Whether it was promoted when it was registered."""
    return verdict.passed and not verdict.smoke and not verdict.gate.get("second_person")
