"""The ledger of evaluations: each look at an edition makes a chance result more likely."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from medloop.storage import file_lock

LEDGER = "ledger.jsonl"
# The probability that a useless change passes a rule on the lower bound of a 95% interval.
ERROR_PER_LOOK = 0.025
# Above this probability that one of the bundles passes by chance, the verdict carries a warning.
MAX_ERROR = 0.2
# The probability that any bundle evaluated on an edition wrongly passes a comparison with the reference version.
BUDGET = 0.05


@dataclass(frozen=True, kw_only=True)
class Look:
    """An evaluation of a bundle on an edition."""

    when: str
    edition: str
    bundle: str
    who: str


def note_look(path: Path, *, edition: str, bundle: str, who: str) -> None:
    """Append a line and sync it to disk, before the bundle is scored."""
    look = Look(when=datetime.now(UTC).isoformat(timespec="seconds"), edition=edition, bundle=bundle, who=who)
    with file_lock(path.with_name(f".{path.name}.lock")), path.open("ab+") as file:
        # A line that was cut off by a kill must not swallow this one.
        begin = b"" if _ends_with_newline(path) else b"\n"
        file.write(begin + json.dumps(asdict(look)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def bundles_seen(path: Path, edition: str) -> int:
    """Return the number of different bundles that were evaluated on this edition."""
    return len(set(_evaluated(path, edition)))


def comparison_number(path: Path, edition: str, *, bundle: str, reference: str | None) -> int:
    """Return the number of this bundle's comparison with the reference version on this edition, counted from 1."""
    order = _evaluated(path, edition)
    if reference in order:
        # Earlier evaluations, and its own, were not compared with it.
        order = [one for one in order[order.index(reference) + 1 :] if one != reference]
    seen = list(dict.fromkeys(order))
    return seen.index(bundle) + 1 if bundle in seen else len(seen) + 1


def error_allowed(number: int, *, planned: int) -> float:
    """Return the error allowed for one comparison: half of the budget is for those planned, the rest for later ones.

    The errors of any number of comparisons never add up to more than the budget.
    """
    return BUDGET * planned / ((planned + number - 1) * (planned + number))


def _evaluated(path: Path, edition: str) -> list[str]:
    return [look.bundle for look in looks(path) if look.edition == edition]


def looks(path: Path) -> Iterator[Look]:
    """Yield every look, the oldest first."""
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            yield Look(**json.loads(line))
        except (ValueError, TypeError):
            continue


def luck_warning(bundles: int) -> str | None:
    """Return a warning if so many bundles were evaluated on the edition that one may pass by chance."""
    luck = 1 - (1 - ERROR_PER_LOOK) ** bundles
    if luck <= MAX_ERROR:
        return None
    return (
        f"{bundles} bundles were evaluated on this edition: if all of them just miss the limit of a rule, one passes "
        f"by chance with a probability of up to {luck:.0%}; collect new test cases, or at least change split.seed"
    )


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        return not size or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")
