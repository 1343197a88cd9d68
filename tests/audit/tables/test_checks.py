"""The audit of a table finds each planted fault, and nothing in a sound table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medloop.audit.findings import Audit
from medloop.audit.tables.checks import audit_table, separation
from medloop.case import Finding
from medloop.recipe import AuditSection
from tests.tables import LABEL, cases_of, clinic

Plant = Callable[[pd.DataFrame], pd.DataFrame]
IS_ILL = {"benign": 0.0, "malignant": 1.0}


def audited(table: pd.DataFrame, folder: Path, *, accept: tuple[str, ...] = (), **data: Any) -> Audit:
    return audit_table(cases_of(table, folder, **data), AuditSection(accept=accept))


def found(audit: Audit, name: str) -> Finding:
    return next(one for one in audit.findings if one.name == name)


def names_of(audit: Audit, *severities: str) -> set[str]:
    return {one.name for one in audit.findings if one.severity in (severities or ("severe", "warning"))}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [("benign", "malignant"), ("a", "b", "c")])
def test_a_sound_table_has_no_findings(seed: int, classes: tuple[str, ...], tmp_path: Path) -> None:
    audit = audited(clinic(200, seed=seed, classes=classes, missing=0.05), tmp_path)
    assert names_of(audit) == set()
    assert audit.groups == ()


def one_cell(table: pd.DataFrame, name: str, change: Callable[[Any], Any]) -> pd.DataFrame:
    table.loc[7, name] = change(table.loc[7, name])
    return table


def noise(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(0, 0.01, len(table))


PLANTED: dict[str, tuple[Plant, str, str, str]] = {
    "a constant column": (lambda t: t.assign(site="A"), "constant_columns", "warning", "site"),
    "a constant number": (lambda t: t.assign(dose=1.5), "constant_columns", "warning", "dose"),
    "a column twice": (lambda t: t.assign(copy=t["area"]), "duplicated_columns", "warning", "copy"),
    "a column with gaps twice": (
        lambda t: t.assign(area=t["area"].where(t.index % 7 > 0)).assign(copy=lambda t: t["area"]),
        "duplicated_columns",
        "warning",
        "copy",
    ),
    "a category with gaps twice": (
        lambda t: t.assign(side=t["side"].where(t.index % 7 > 0)).assign(copy=lambda t: t["side"]),
        "duplicated_columns",
        "warning",
        "copy",
    ),
    "a category twice": (lambda t: t.assign(copy=t["side"]), "duplicated_columns", "warning", "copy"),
    "an identifier": (lambda t: t.assign(number=range(1000, 1000 + len(t))), "identifier", "warning", "number"),
    "a column with many gaps": (
        lambda t: t.assign(area=t["area"].where(t.index % 3 == 0)),
        "missing_values",
        "warning",
        "area",
    ),
    "a unit times ten in one row": (lambda t: one_cell(t, "age", lambda v: v * 10), "out_of_range", "warning", "age"),
    "a unit by a thousand in one row": (
        lambda t: one_cell(t, "area", lambda v: v / 1000),
        "out_of_range",
        "warning",
        "area",
    ),
    "a slipped decimal point": (
        lambda t: one_cell(t, "texture", lambda v: v * 100),
        "out_of_range",
        "warning",
        "texture",
    ),
    "a stand-in for nothing": (lambda t: one_cell(t, "age", lambda _: -999), "out_of_range", "warning", "age"),
    "the label as a number": (
        lambda t: t.assign(code=t[LABEL].map(IS_ILL)),
        "leaking_column",
        "severe",
        "code",
    ),
    "the label with noise": (
        lambda t: t.assign(score=(t[LABEL].map(IS_ILL) + noise(t)).round(4)),
        "leaking_column",
        "severe",
        "score",
    ),
    "the label upside down": (
        lambda t: t.assign(score=(-3 * t[LABEL].map(IS_ILL) + noise(t)).round(4)),
        "leaking_column",
        "severe",
        "score",
    ),
    "the label in other words": (
        lambda t: t.assign(report=np.where(t[LABEL] == "benign", "clear", "mass")),
        "leaking_column",
        "severe",
        "report",
    ),
    "the label in several codes": (
        lambda t: t.assign(code=[f"{'CD'[int(IS_ILL[k])]}5{row % 5}" for row, k in enumerate(t[LABEL])]),
        "leaking_column",
        "severe",
        "code",
    ),
    "the label in codes that are numbers": (
        lambda t: t.assign(code=[2 * (row % 5) + int(IS_ILL[k]) for row, k in enumerate(t[LABEL])]),
        "leaking_column",
        "severe",
        "code",
    ),
    "a value known only for one class": (
        lambda t: t.assign(weight=t["texture"].where(t[LABEL] == "malignant")),
        "leaking_column",
        "severe",
        "weight",
    ),
    "numbers with their unit": (
        lambda t: t.assign(size=[f"{row % 15} mm" for row in range(len(t))]),
        "numbers_as_text",
        "warning",
        "size",
    ),
}


@pytest.mark.parametrize(("plant", "name", "severity", "where"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found_by_name(plant: Plant, name: str, severity: str, where: str, tmp_path: Path) -> None:
    audit = audited(plant(clinic(200)), tmp_path)
    finding = found(audit, name)
    assert finding.severity == severity
    assert where in finding.where
    assert finding.todo
    assert names_of(audit) == {name} | ({"missing_values"} if where == "weight" else set())


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("a", "b", "c", "d")])
def test_a_column_that_predicts_each_of_many_classes_is_found(classes: tuple[str, ...], tmp_path: Path) -> None:
    table = clinic(200, classes=classes)
    table = table.assign(code=table[LABEL].map({name: number for number, name in enumerate(classes)}) + noise(table))
    assert found(audited(table, tmp_path), "leaking_column").where == ("code",)


def test_a_column_that_separates_only_one_of_three_classes_is_no_leak(tmp_path: Path) -> None:
    table = clinic(200, classes=("a", "b", "c"))
    table = table.assign(size=(table[LABEL] == "a") * 5 + np.random.default_rng(0).normal(size=200).round(3))
    assert names_of(audited(table, tmp_path)) == set()


def test_rows_entered_twice_are_found_and_kept_together(tmp_path: Path) -> None:
    table = clinic(200).assign(patient=None)
    audit = audited(pd.concat([table, table.iloc[[3, 4]]]), tmp_path)
    assert found(audit, "duplicate_rows").count == 2
    assert sorted(map(len, audit.groups)) == [2, 2]
    assert "contradicting_labels" not in names_of(audit)


def test_equal_rows_of_different_classes_are_severe(tmp_path: Path) -> None:
    table = clinic(200)
    twin = table.iloc[[3]].assign(**{LABEL: lambda t: "malignant" if t[LABEL].item() == "benign" else "benign"})
    finding = found(audited(pd.concat([table, twin]), tmp_path), "contradicting_labels")
    assert (finding.severity, finding.count) == ("severe", 1)


def test_equal_rows_are_expected_in_a_table_with_few_values(tmp_path: Path) -> None:
    table = clinic(200)[["patient", "side", "stage", "cells", LABEL]]
    audit = audited(table, tmp_path)
    assert names_of(audit) == set()
    assert found(audit, "equal_rows").severity == "note"
    assert audit.groups == ()


def test_rows_without_label_are_counted(tmp_path: Path) -> None:
    table = clinic(200)
    table.loc[:4, LABEL] = None
    finding = found(audited(table, tmp_path), "quarantined")
    assert (finding.severity, finding.count) == ("warning", 5)
    assert "no label: 5" in finding.what


def test_a_table_without_patients_has_a_note(tmp_path: Path) -> None:
    assert found(audited(clinic(200), tmp_path, patient=None, drop=["patient"]), "no_patients").severity == "note"


def test_rows_without_a_patient_are_counted(tmp_path: Path) -> None:
    table = clinic(200)
    table.loc[:2, "patient"] = None
    finding = found(audited(table, tmp_path), "unknown_patients")
    assert (finding.severity, finding.count) == ("warning", 3)


def test_a_small_class_is_named(tmp_path: Path) -> None:
    table = clinic(200)
    table.loc[:4, LABEL] = "rare"
    assert found(audited(table, tmp_path), "small_class").where == ("rare",)


def test_severe_findings_come_first_and_can_be_accepted_by_name(tmp_path: Path) -> None:
    table = clinic(200).assign(site="A", code=lambda t: t[LABEL].map(IS_ILL))
    audit = audited(table, tmp_path)
    assert audit.findings[0].severity == "severe"
    assert [one.name for one in audit.open_severe(AuditSection())] == ["leaking_column"]
    assert audit.open_severe(AuditSection(accept=("leaking_column",))) == []


def test_the_order_of_rows_and_columns_changes_no_finding(tmp_path: Path) -> None:
    table = clinic(200).assign(site="A", code=lambda t: t[LABEL].map(IS_ILL))
    shuffled = table.sample(frac=1, random_state=0)[[*reversed(table.columns)]]
    first, second = audited(table, tmp_path), audited(shuffled, tmp_path)
    assert {(one.name, frozenset(one.where)) for one in first.findings} == {
        (one.name, frozenset(one.where)) for one in second.findings
    }


def test_no_finding_names_a_patient_or_quotes_a_rare_value(tmp_path: Path) -> None:
    table = clinic(200)
    table.loc[:2, "patient"] = None
    table = pd.concat([table, table.iloc[[3, 4]]])
    text = repr(audited(table, tmp_path).findings)
    assert "p0003" not in text
    assert "p0004" not in text


@pytest.mark.parametrize("kind", ["number", "category", "missing"])
def test_a_random_column_separates_nothing(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels = pd.Series(rng.choice(["n", "p"], 2000))
    column = {
        "number": pd.Series(rng.normal(size=2000)),
        "category": pd.Series(rng.choice(list("abcdefgh"), 2000), dtype=object),
        "missing": pd.Series([None] * 2000, dtype=object),
    }[kind]
    assert separation(column, labels) < 0.55


def test_a_column_with_very_many_texts_is_skipped_quickly() -> None:
    labels = pd.Series(["n", "p"] * 20_000)
    column = pd.Series([f"code {number % 7000}" for number in range(40_000)], dtype=object)
    assert separation(column, labels) == 0.5
