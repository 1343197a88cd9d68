"""Split cases by patient and duplicate group, stratified, seeded and independent of the order of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.data.groups import component_numbers
from medloop.data.manifest import usable
from medloop.errors import UserError
from medloop.recipe import SplitSection

TRAIN, VAL, CALIB, TEST, OUT = "train", "val", "calib", "test", "out"
SMOKE, LEAK = "smoke", "shares a patient or picture with a fixed part"
NO_FOLD = -1
SMOKE_SHARE = 0.2

Counts = NDArray[np.float64]


def split_cases(
    cases: pd.DataFrame,
    section: SplitSection,
    *,
    together: Iterable[Sequence[str]] = (),
    locked: frozenset[str] = frozenset(),
    smoke: bool = False,
) -> pd.DataFrame:
    """Return a row per usable case with its part, fold and group; `locked` cases stay the test set."""
    table = usable(cases)
    table = table.assign(group=_groups(table, together))
    home = official_parts(table, section)
    if locked:
        home = home.where(home != TEST, None).mask(table["case_id"].isin(locked), TEST)
    counts = _class_counts(table)
    part = _smoke_parts(counts, section) if smoke else {}
    for place in (VAL, TEST):
        held = set(table.loc[home == place, "group"])
        part |= {group: place for group in held if part.get(group) != OUT}
    free = {group: count for group, count in counts.items() if group not in part}
    if TEST not in part.values():
        chosen = assign(free, {TRAIN: 1 - section.test, TEST: section.test}, seed=section.seed, salt="part")
        part |= {group: TEST for group, place in chosen.items() if place == TEST}
    # In a second step, so that splitting again around a locked edition results in the same parts.
    rest = {group: count for group, count in free.items() if group not in part}
    part |= assign(rest, _shares_of_rest(section, taken=set(part.values())), seed=section.seed, salt="rest")
    folds = _folds({group: counts[group] for group, place in part.items() if place == TRAIN}, section)
    if not (home == TEST).any():
        _check_tested(free, {group for group in free if part[group] == TEST})
    placed = table["group"].map(part)
    # Cases that share a patient or picture with a fixed test or validation set are left out.
    leaks = placed.isin(home.dropna().unique()) & placed.isin([VAL, TEST]) & (home != placed)
    why = pd.Series(np.where(placed == OUT, SMOKE, ""), index=table.index).mask(leaks, LEAK)
    return pd.DataFrame(
        {
            "case_id": table["case_id"],
            "part": placed.mask(why != "", OUT),
            "fold": table["group"].map(folds).fillna(NO_FOLD).astype(int),
            "group": table["group"],
            "patient": _patients(table),
            "why": why,
        }
    )


def official_parts(table: pd.DataFrame, section: SplitSection) -> pd.Series[Any]:
    """Return the official part of each case; if the source has only two, the second is the test set."""
    if not section.official or "given" not in table or table["given"].isna().all():
        return pd.Series([None] * len(table), index=table.index, dtype=object)
    given = table["given"].astype(object)
    return given if (given == TEST).any() else given.mask(given == VAL, TEST)


def _smoke_parts(counts: Mapping[str, Counts], section: SplitSection) -> dict[str, str]:
    chosen = assign(counts, {"in": SMOKE_SHARE, OUT: 1 - SMOKE_SHARE}, seed=section.seed, salt="smoke")
    return {group: OUT for group, place in chosen.items() if place == OUT}


def assign(groups: Mapping[str, Counts], shares: Mapping[str, float], *, seed: int, salt: str) -> dict[str, str]:
    """Assign each group to the part that needs its classes most; large groups first, equal ones in hashed order."""
    if not groups:
        return {}
    totals = np.maximum(np.sum(list(groups.values()), axis=0), 1)
    names = list(shares)
    missing = np.array([[share] for share in shares.values()]) * totals
    order = sorted(groups, key=lambda group: (-groups[group].sum(), _hash(seed, salt, group)))
    chosen = {}
    for group in order:
        # Rounded, so that equal needs stay equal in any order of summation.
        best = int(np.argmax(np.round(missing @ (groups[group] / totals), 9)))
        missing[best] -= groups[group]
        chosen[group] = names[best]
    return chosen


def fold_numbers(groups: Sequence[str], labels: Sequence[str], *, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each case for another repeat of the cross-validation."""
    counts = _class_counts(pd.DataFrame({"group": list(groups), "label": list(labels)}))
    shares = {str(fold): 1 / folds for fold in range(folds)}
    chosen = assign(counts, shares, seed=seed, salt="repeat")
    return np.array([int(chosen[group]) for group in groups])


def _check_tested(groups: Mapping[str, Counts], tested: set[str]) -> None:
    totals = np.sum(list(groups.values()), axis=0)
    held = sum((groups[group] for group in tested), start=np.zeros_like(totals))
    if np.any((totals > 0) & (held == 0)):
        raise UserError(
            f"A class with {int(np.min(totals[(totals > 0) & (held == 0)]))} cases has none in the test set.",
            "Raise `split.test`, add cases, or merge the class with another.",
        )


def _shares_of_rest(section: SplitSection, *, taken: Iterable[str]) -> dict[str, float]:
    """Return the shares of the parts besides test; a part that is fixed already takes no more."""
    wanted = {VAL: section.val / (1 - section.test), CALIB: section.calib / (1 - section.test)}
    given = {name: share for name, share in wanted.items() if share > 0 and name not in taken}
    return {TRAIN: 1 - sum(given.values()), **given}


def _folds(groups: Mapping[str, Counts], section: SplitSection) -> dict[str, int]:
    smallest = int(np.min(np.count_nonzero(list(groups.values()), axis=0))) if groups else 0
    if smallest < section.folds:
        raise UserError(
            f"The rarest class has {smallest} patients or groups for training, and {section.folds} folds need "
            f"at least {section.folds}.",
            f"Lower `split.folds` (or --k-folds) to {max(smallest, 2)}, or add cases.",
        )
    shares = {str(fold): 1 / section.folds for fold in range(section.folds)}
    return {group: int(fold) for group, fold in assign(groups, shares, seed=section.seed, salt="fold").items()}


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _class_counts(table: pd.DataFrame) -> dict[str, Counts]:
    counts = pd.crosstab(table["group"], table["label"])
    return {str(group): row for group, row in zip(counts.index, counts.to_numpy(float), strict=True)}


def _patients(table: pd.DataFrame) -> pd.Series[str]:
    """Return the lowest case id of the patient, study or series of each case, or its own."""
    known = table["group_id"].fillna(table["patient_id"])
    return table.groupby(known)["case_id"].transform("min").fillna(table["case_id"])


def _groups(table: pd.DataFrame, together: Iterable[Sequence[str]]) -> list[str]:
    """Return the name of each case's group: the first case id among all that a patient or copies link together."""
    place = {name: number for number, name in enumerate(table["case_id"])}
    # A source may group cases itself, such as a study whose patient is unknown.
    ties = [tie.tolist() for name in ("patient_id", "group_id") for _, tie in table.groupby(name)["case_id"]]
    links = [[place[name] for name in tie if name in place] for tie in [*ties, *together]]
    number = component_numbers(links, count=len(table))
    return [str(name) for name in table["case_id"].groupby(number).transform("min")]
