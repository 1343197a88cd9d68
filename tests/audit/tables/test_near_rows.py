"""Rows copied with a little noise are found; rows that are alike by chance or by their scale are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medloop.audit.tables.checks import audit_table
from medloop.audit.tables.near_rows import near_equal_rows
from medloop.recipe import AuditSection
from tests.tables import LABEL, cases_of, clinic

COPIES = 40


def noisy(rows: pd.DataFrame, table: pd.DataFrame, noise: float, *, seed: int = 0) -> pd.DataFrame:
    """The rows with noise, in standard deviations of the table's columns, in every number."""
    rng, copy = np.random.default_rng(seed), rows.copy()
    for name in table.select_dtypes("number"):
        copy[name] = rows[name] + rng.normal(0, noise, len(rows)) * table[name].std()
    return copy


def pairs_in(values: pd.DataFrame, patients: list[str | None] | None = None) -> set[tuple[int, int]]:
    named = pd.Series(patients or [None] * len(values), dtype=object)
    return {(min(pair), max(pair)) for pair in near_equal_rows(values, named).tolist()}


def numeric(table: pd.DataFrame) -> pd.DataFrame:
    columns = table.drop(columns=["patient", LABEL])
    return columns.astype(dict.fromkeys(("age", "area", "texture", "cells"), float))


def gauss(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, columns))).rename(columns=str)


def dependent(rows: int, columns: int, dimension: int) -> pd.DataFrame:
    """Columns that are sums of a few."""
    known, weights = gauss(rows, dimension).to_numpy(), gauss(dimension, columns, seed=1).to_numpy()
    return pd.DataFrame(known @ weights).rename(columns=str)


TABLES = {
    "numbers and categories": lambda: numeric(clinic(400)),
    "with gaps": lambda: numeric(clinic(400, missing=0.15)),
    "few columns": lambda: gauss(400, 3),
    "many columns": lambda: gauss(400, 30),
    "columns that go together": lambda: dependent(400, 25, 4),
    "skewed": lambda: np.exp(2 * gauss(400, 8)),
    "scores of 30 questions": lambda: np.rint(3 * gauss(400, 30)),
}


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
@pytest.mark.parametrize("table", TABLES)
def test_only_rows_copied_with_noise_are_found(table: str, noise: float) -> None:
    values = TABLES[table]()
    assert pairs_in(values) == set()
    found = pairs_in(pd.concat([values, noisy(values[:COPIES], values, noise)], ignore_index=True))
    wanted = {(place, len(values) + place) for place in range(COPIES)}
    assert len(found & wanted) >= 0.95 * COPIES
    assert len(found & wanted) >= 0.95 * len(found)


def scores(rows: int, columns: int, levels: int, *, seed: int = 0) -> pd.DataFrame:
    """Whole numbers that go together, as the answers of one patient do."""
    rng = np.random.default_rng(seed)
    trait = rng.normal(size=(rows, 1)) + 0.7 * rng.normal(size=(rows, columns))
    return pd.DataFrame(np.clip(np.rint(trait + levels / 2), 0, levels - 1)).rename(columns=str)


ALIKE = {
    "few scores": lambda: scores(2000, 6, 5),
    "yes and no": lambda: scores(2000, 40, 2),
    "scores and an age": lambda: scores(2000, 6, 5).assign(age=np.random.default_rng(1).normal(55, 12, 2000).round()),
    "scores and a value": lambda: scores(2000, 6, 5).assign(value=np.random.default_rng(1).normal(0, 1, 2000)),
    "a skewed count": lambda: scores(2000, 30, 2).assign(
        count=np.exp(np.random.default_rng(1).normal(0, 2.5, 2000)).round()
    ),
    "one column": lambda: gauss(2000, 1),
    "two columns": lambda: gauss(3000, 2),
    "a plane in many columns": lambda: dependent(2000, 20, 2),
    "values in tenths": lambda: gauss(2000, 3).round(1),
    "categories alone": lambda: scores(500, 4, 3).astype(str),
    "one value": lambda: pd.DataFrame({"a": [1.0] * 30, "b": [None] * 30}),
}


@pytest.mark.parametrize("table", ALIKE)
def test_rows_that_are_similar_by_chance_are_no_copies(table: str) -> None:
    values = ALIKE[table]()
    assert pairs_in(values) == set()


def test_rows_of_one_patient_are_no_copies() -> None:
    values = gauss(300, 6)
    both = pd.concat([values, noisy(values[:COPIES], values, 1e-4)], ignore_index=True)
    patients: list[str | None] = [f"p{place % 300}" for place in range(len(both))]
    assert pairs_in(both, patients) == set()


def test_the_tolerance_is_lowered_where_rows_are_close_by_chance() -> None:
    values = gauss(60_000, 3)
    found = pairs_in(pd.concat([values, noisy(values[:200], values, 1e-4)], ignore_index=True))
    wanted = {(place, len(values) + place) for place in range(200)}
    assert len(found & wanted) >= 0.95 * 200
    assert len(found & wanted) >= 0.95 * len(found)


def test_the_audit_groups_near_equal_rows_with_equal_rows(tmp_path: Path) -> None:
    table = clinic(200).assign(patient=None)
    copies = noisy(table.iloc[[3, 4, 5]], table, 1e-4).assign(patient=None)
    cases = cases_of(pd.concat([table, copies, table.iloc[[3]]]), tmp_path)
    audit = audit_table(cases, AuditSection())
    finding = next(one for one in audit.findings if one.name == "near_duplicate_rows")
    assert (finding.severity, finding.count) == ("warning", 3)
    assert "6 rows in 3 groups" in finding.what
    assert len(set(finding.where) & set(cases["case_id"])) == 6
    assert sorted(map(len, audit.groups)) == [2, 2, 3]
    assert "near_duplicate_rows_two_labels" not in {one.name for one in audit.findings}


def test_copies_with_another_label_are_severe(tmp_path: Path) -> None:
    table = clinic(200).assign(patient=None)
    copies = noisy(table.iloc[[3]], table, 1e-4).assign(**{LABEL: table.iloc[4][LABEL]})
    audit = audit_table(cases_of(pd.concat([table, copies]), tmp_path), AuditSection())
    assert [one.name for one in audit.open_severe(AuditSection())] == ["near_duplicate_rows_two_labels"]
