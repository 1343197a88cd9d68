"""The conditions under which a version may serve or become the reference version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medloop.case import same_person
from medloop.errors import GateRefusal

if TYPE_CHECKING:
    from medloop.case import Verdict
    from medloop.registry.reference import Reference
    from medloop.registry.version import Champion, Version


def check_binding(digest: str, verdict: Verdict) -> None:
    """Raise GateRefusal if the verdict is on another bundle."""
    if digest != verdict.bundle:
        raise GateRefusal(
            f"The verdict is on bundle {verdict.bundle[:12]}, and this is bundle {digest[:12]}.",
            "Run `medloop evaluate` and `medloop gate` on this bundle.",
        )


def check_up_to_date(version: Version, now: Champion | None, reference: Reference | None) -> None:
    """Raise GateRefusal if the verdict compares with a champion or reference version that was replaced since."""
    verdict = version.verdict
    if (
        now is None
        or now.previous == version.number
        or not (_has_limit(verdict, "not_worse_by") or _has_limit(verdict, "better_by"))
    ):
        return
    against = verdict.champion["bundle"] if verdict.champion is not None else None
    if against != now.bundle:
        raise GateRefusal(
            f"The version was compared with {'no champion' if against is None else f'bundle {against[:12]}'}, "
            f"but bundle {now.bundle[:12]} serves now.",
            "Run `medloop gate` and `medloop register` again; to return to the previous version, run "
            "`medloop models rollback`.",
        )
    if reference is not None and _has_limit(verdict, "not_worse_by"):
        _check_compared(verdict, reference)


def _has_limit(verdict: Verdict, limit: str) -> bool:
    return any(rule.get(limit) is not None for rule in verdict.gate.get("rules", ()))


def _check_compared(verdict: Verdict, reference: Reference) -> None:
    compared = {one["bundle"] for one in (verdict.champion, verdict.reference) if one is not None}
    if reference.bundle not in {*compared, verdict.bundle}:
        raise GateRefusal(
            f"The version was not compared with the reference version {reference.version} "
            f"(bundle {reference.bundle[:12]}).",
            "Run `medloop gate` and `medloop register` again.",
        )


def check_second_person(version: Version, by: str) -> None:
    """Raise GateRefusal if the person who registered the version also promotes it."""
    if not _are_different_people(version.by, by):
        raise GateRefusal(
            f"gate.second_person requires two people, but the version was registered by {version.by or 'unknown'} "
            f"and would be promoted by {by or 'unknown'}.",
            "Let somebody else run `medloop models promote`; `user` in config.yaml sets the name.",
        )


def check_may_be_reference(version: Version, champion: Champion | None, by: str) -> None:
    """Raise GateRefusal unless this version serves and somebody else promoted it."""
    if champion is None or champion.version != version.number:
        serves = f"version {champion.version} does" if champion else "none does"
        raise GateRefusal(
            f"Version {version.number} does not serve ({serves}), so it cannot become the reference version.",
            "Promote it first: `medloop models promote`.",
        )
    if not _are_different_people(champion.by, by):
        raise GateRefusal(
            f"A new reference version requires two people, but the version was promoted by "
            f"{champion.by or 'unknown'} and would be set by {by or 'unknown'}.",
            "Let somebody else run `medloop models reference`; `user` in config.yaml sets the name.",
        )


def _are_different_people(one: str, other: str) -> bool:
    known = all(name.strip() and not same_person(name, "unknown") for name in (one, other))
    return known and not same_person(one, other)
