"""The manifest: fixed columns, an order of its own, and a version that any change of content changes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medloop.case import Case, case_id
from medloop.data import manifest
from medloop.errors import UserError
from tests.tables import cases_of, clinic


@pytest.fixture
def cases(tmp_path: Path) -> pd.DataFrame:
    return cases_of(clinic(30, missing=0.3), tmp_path)


def small(**columns: object) -> pd.DataFrame:
    fixed = {"case_id": ["b", "a"], "label": ["n", "p"], "source": "test", "file_sha256": ["1", "2"]}
    return manifest.complete_manifest(pd.DataFrame({**fixed, **columns}))


def test_the_fixed_columns_come_first_and_cases_in_the_order_of_their_ids() -> None:
    table = small(**{"row.x": [1.0, 2.0]})
    assert table.columns.tolist()[: len(manifest.COLUMNS)] == list(manifest.COLUMNS)
    assert table.columns.tolist()[-1] == "row.x"
    assert table["case_id"].tolist() == ["a", "b"]
    assert table["row.x"].tolist() == [2.0, 1.0]


def test_no_cases_are_an_error() -> None:
    with pytest.raises(UserError, match="has no cases"):
        manifest.complete_manifest(pd.DataFrame({"case_id": []}))


def test_a_repeated_case_is_an_error() -> None:
    with pytest.raises(UserError, match="used by several cases"):
        small(case_id=["a", "a"])


def test_what_was_written_is_read_back(cases: pd.DataFrame, tmp_path: Path) -> None:
    manifest.write_cases(cases, tmp_path / "cases.parquet")
    again = manifest.read_cases(tmp_path / "cases.parquet")
    assert again.columns.tolist() == cases.columns.tolist()
    assert manifest.fingerprint(again) == manifest.fingerprint(cases)
    pd.testing.assert_frame_equal(manifest.values(again), manifest.values(cases), check_dtype=False)


@pytest.mark.parametrize("column", ["case_id", "file_sha256", "label", "patient_id", "quarantined"])
def test_the_data_version_changes_with_content(column: str, cases: pd.DataFrame) -> None:
    changed = cases.copy()
    changed.loc[3, column] = "something else"
    assert manifest.fingerprint(changed) != manifest.fingerprint(cases)


def test_the_data_version_changes_when_a_case_is_gone(cases: pd.DataFrame) -> None:
    assert manifest.fingerprint(cases.iloc[1:]) != manifest.fingerprint(cases)


def test_a_value_that_moves_to_the_next_field_is_another_version() -> None:
    first, second = small(patient_id=["x", None]), small(quarantined=["x", None])
    assert manifest.fingerprint(first) != manifest.fingerprint(second)


def test_usable_cases_are_those_not_set_aside(cases: pd.DataFrame) -> None:
    cases.loc[[2, 5], "quarantined"] = "no label"
    usable = manifest.usable(cases)
    assert len(usable) == 28
    assert usable.index.tolist() == list(range(28))


def test_a_row_is_a_case_with_its_own_columns(cases: pd.DataFrame) -> None:
    row = cases.to_dict("records")[0]
    case = manifest.case_of(row)
    assert isinstance(case, Case)
    assert (case.case_id, case.label, case.patient_id) == (row["case_id"], row["label"], row["patient_id"])
    assert list(case.values) == ["age", "area", "texture", "cells", "side", "stage"]
    gaps = [
        value for one in cases.to_dict("records") for value in manifest.case_of(one).values.values() if pd.isna(value)
    ]
    assert gaps
    assert set(gaps) == {None}


def test_ids_of_different_sources_differ() -> None:
    assert case_id("a", "b#1") != case_id("b", "a#1")
    assert case_id("ab", "c") != case_id("a", "bc")


def test_a_row_has_one_fingerprint_whatever_the_order_of_its_columns() -> None:
    assert manifest.row_sha256({"a": 1.0, "b": None}) == manifest.row_sha256({"b": None, "a": 1.0})
    assert manifest.row_sha256({"a": 1.0, "b": None}) != manifest.row_sha256({"a": None, "b": 1.0})
