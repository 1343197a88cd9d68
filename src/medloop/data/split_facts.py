"""The facts of a split for the report: which parts are official, which were drawn, and what was kept together."""

from __future__ import annotations

from typing import Any

import pandas as pd

from medloop.data.manifest import usable
from medloop.data.split import CALIB, OUT, TEST, TRAIN, VAL, official_parts
from medloop.recipe import SplitSection

PARTS = (TRAIN, VAL, CALIB, TEST)


def split_facts(
    cases: pd.DataFrame, splits: pd.DataFrame, section: SplitSection, *, copies: int, smoke: bool
) -> dict[str, Any]:
    """Return counts and rules, without data of single patients; equal splits have equal facts.

    `copies` is the number of groups of copies that the audit found.
    """
    table = usable(cases)
    home = official_parts(table, section)
    given = dict(zip(table["case_id"], table["given"], strict=True)) if "given" in table else {}
    joined = splits.merge(table[["case_id", "label", "patient_id", "group_id"]], on="case_id")
    inside = joined[joined["part"] != OUT]
    drawn = {name for name in PARTS[1:] if name in set(inside["part"]) and not (home == name).any()}
    return {
        "parts": {name: _part(rows) for name in PARTS if len(rows := inside[inside["part"] == name])},
        "official": {
            name: sorted({given[case_id] for case_id in table.loc[home == name, "case_id"]})
            for name in (VAL, TEST)
            if (home == name).any()
        },
        "drawn": {name: getattr(section, name) for name in PARTS if name in drawn},
        "seed": section.seed,
        "stratified": True,
        "smoke": smoke,
        "folds": int(inside.loc[inside["fold"] >= 0, "fold"].nunique()),
        "cases": len(inside),
        "cases_with_patient": int(inside["patient_id"].notna().sum()),
        "cases_with_study": int(inside.loc[inside["patient_id"].isna(), "group_id"].notna().sum()),
        "patients": int(inside["patient_id"].nunique()),
        "patients_in_several_parts": int((inside.groupby("patient_id")["part"].nunique() > 1).sum()),
        "groups": int(inside["group"].nunique()),
        "copies": copies,
        "left_out": {str(why): int(n) for why, n in joined.loc[joined["why"] != "", "why"].value_counts().items()},
    }


def _part(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        "cases": len(rows),
        "groups": int(rows["group"].nunique()),
        "patients": int(rows["patient_id"].nunique()) or None,
        "labels": {str(name): int(n) for name, n in rows["label"].value_counts().sort_index().items()},
    }
