"""What must hold before a version may serve or be the reference: whose verdict, against whom, and by which person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medloop.case import same_person
from medloop.errors import GateRefusal

if TYPE_CHECKING:
    from medloop.case import Verdict
    from medloop.registry.reference import Reference
    from medloop.registry.version import Champion, Version


def check_binding(digest: str, verdict: Verdict) -> None:
    """Raise if the verdict is on other bytes."""
    if digest != verdict.bundle:
        raise GateRefusal(
            "a verdict must be on exactly these bytes",
            found=f"a verdict on bundle {verdict.bundle[:12]}, the bundle is {digest[:12]}",
            hint="run `medloop evaluate` and `medloop gate` on this bundle",
        )


def check_up_to_date(version: Version, now: Champion | None, reference: Reference | None) -> None:
    """Raise if the verdict compares with a champion or reference that was replaced in the meantime."""
    verdict = version.verdict
    if (
        now is None
        or now.previous == version.number
        or not (_has(verdict, "not_worse_by") or _has(verdict, "better_by"))
    ):
        return
    against = verdict.champion["bundle"] if verdict.champion is not None else None
    if against != now.bundle:
        raise GateRefusal(
            "a version must have been compared with the champion that serves",
            found=f"a comparison with {'none' if against is None else against[:12]}, and {now.bundle[:12]} serves",
            hint="run `medloop gate` and `medloop register` again; a version that served before: "
            "`medloop models rollback`",
        )
    if reference is not None and _has(verdict, "not_worse_by"):
        _check_compared(verdict, reference)


def _has(verdict: Verdict, limit: str) -> bool:
    return any(rule.get(limit) is not None for rule in verdict.gate.get("rules", ()))


def _check_compared(verdict: Verdict, reference: Reference) -> None:
    compared = {one["bundle"] for one in (verdict.champion, verdict.reference) if one is not None}
    if reference.bundle not in {*compared, verdict.bundle}:
        raise GateRefusal(
            "a version must have been compared with the reference version",
            found=f"no comparison with version {reference.version}, bundle {reference.bundle[:12]}",
            hint="run `medloop gate` and `medloop register` again",
        )


def check_second_person(version: Version, by: str) -> None:
    """Raise if whoever registered the version also promotes it."""
    if not _are_two(version.by, by):
        raise GateRefusal(
            "a second person must promote (gate.second_person)",
            found=f"registered by {version.by or 'nobody known'}, to be promoted by {by or 'nobody known'}",
            hint="let somebody else run `medloop models promote`; `user` in config.yaml says who one is",
        )


def check_may_be_reference(version: Version, champion: Champion | None, by: str) -> None:
    """Raise unless this version serves and somebody else promoted it."""
    if champion is None or champion.version != version.number:
        serves = f"version {champion.version} serves" if champion else "no version serves"
        raise GateRefusal(
            "only the version that serves can become the reference version",
            found=f"version {version.number}, and {serves}",
            hint="promote it first: `medloop models promote`",
        )
    if not _are_two(champion.by, by):
        raise GateRefusal(
            "a new reference version needs a second person",
            found=f"promoted by {champion.by or 'nobody known'}, to be set by {by or 'nobody known'}",
            hint="let somebody else run `medloop models reference`; `user` in config.yaml says who one is",
        )


def _are_two(one: str, other: str) -> bool:
    known = all(name.strip() and not same_person(name, "unknown") for name in (one, other))
    return known and not same_person(one, other)
