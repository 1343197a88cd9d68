"""The ledger: every look at an edition, since a test set that steers decisions wears out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from medloop.storage import file_lock

LEDGER = "ledger.jsonl"
# The chance that a change which helps nothing passes a rule at the lower end of a 95% interval.
LUCK = 0.025
# With so many bundles tried, one of them passes by luck in one case out of five.
WORN = 0.2
# The chance that any of the bundles looked at on an edition passes a comparison that it should not pass.
BUDGET = 0.05


@dataclass(frozen=True, kw_only=True)
class Look:
    """One evaluation of a bundle on an edition."""

    when: str
    edition: str
    bundle: str
    who: str


def note_look(path: Path, *, edition: str, bundle: str, who: str) -> None:
    """Add a line and wait until it is on the disk; it is written before the bundle is scored."""
    look = Look(when=datetime.now(UTC).isoformat(timespec="seconds"), edition=edition, bundle=bundle, who=who)
    with file_lock(path.with_name(f".{path.name}.lock")), path.open("ab+") as file:
        # What a kill left half written is no look, and must not swallow this one.
        begin = b"" if _ends_well(path) else b"\n"
        file.write(begin + json.dumps(asdict(look)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def bundles_seen(path: Path, edition: str) -> int:
    """How many different bundles were looked at on this edition."""
    return len(set(_looked_at(path, edition)))


def comparison_number(path: Path, edition: str, *, bundle: str, reference: str | None) -> int:
    """Which of the comparisons with the reference version on this edition that of the bundle is, counted from 1."""
    order = _looked_at(path, edition)
    if reference in order:
        # What came before it, and its own looks, compared nothing with it.
        order = [one for one in order[order.index(reference) + 1 :] if one != reference]
    seen = list(dict.fromkeys(order))
    return seen.index(bundle) + 1 if bundle in seen else len(seen) + 1


def error_allowed(number: int, *, planned: int) -> float:
    """The share of the error budget for one comparison: half of it is for those planned, the rest for all later ones.

    The shares of however many comparisons never add up to more than the budget.
    """
    return BUDGET * planned / ((planned + number - 1) * (planned + number))


def _looked_at(path: Path, edition: str) -> list[str]:
    return [look.bundle for look in looks(path) if look.edition == edition]


def looks(path: Path) -> Iterator[Look]:
    """Every look, oldest first."""
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            yield Look(**json.loads(line))
        except (ValueError, TypeError):
            continue


def wear(bundles: int) -> str | None:
    """A warning where so many bundles were tried on one edition that luck alone may pass the gate."""
    luck = 1 - (1 - LUCK) ** bundles
    if luck <= WORN:
        return None
    return (
        f"{bundles} bundles were looked at on this edition: of as many that just miss the limit of a rule, one passes "
        f"it by luck with a chance of up to {luck:.0%}; set another split.seed, or better, collect new test cases"
    )


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        return not size or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")
