"""The prepared table is read back as it was written, and prepares to the same inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medloop.data import manifest
from medloop.prepare.prepared_table import read_prepared, rows_of, write_prepared
from medloop.prepare.table import TablePreparer
from tests.tables import cases_of, clinic

TASK = {"task": "table", "classes": ["benign", "malignant"], "positive": ["malignant"]}


def preparer_for(cases: pd.DataFrame) -> TablePreparer:
    values = {str(name): column.tolist() for name, column in manifest.values(cases).astype(object).items()}
    return TablePreparer.fit(values, categories=(), max_categories=10)


@pytest.fixture
def cases(tmp_path: Path) -> pd.DataFrame:
    return cases_of(clinic(40, missing=0.3), tmp_path)


def test_rows_have_the_columns_own_names_and_none_where_nothing_is_known(cases: pd.DataFrame) -> None:
    rows = rows_of(cases)
    assert list(rows[0]) == ["age", "area", "texture", "cells", "side", "stage"]
    assert {type(row["area"]) for row in rows} == {float, type(None)}
    assert {type(row["stage"]) for row in rows} == {str, type(None)}


def test_what_was_written_is_read_back(cases: pd.DataFrame, tmp_path: Path) -> None:
    preparer = preparer_for(cases)
    write_prepared(cases, preparer, TASK, tmp_path / "prepared")
    prepared = read_prepared(tmp_path / "prepared")
    assert prepared.case_ids == cases["case_id"].tolist()
    assert prepared.labels == cases["label"].tolist()
    assert prepared.preparer == preparer
    assert prepared.task == TASK


def test_preparing_again_changes_nothing(cases: pd.DataFrame, tmp_path: Path) -> None:
    preparer = preparer_for(cases)
    write_prepared(cases, preparer, TASK, tmp_path / "prepared")
    first, again = preparer.prepare(rows_of(cases)), preparer.prepare(read_prepared(tmp_path / "prepared").rows)
    for name in preparer.names:
        np.testing.assert_array_equal(first[name], again[name])


def test_no_patient_reaches_the_prepared_table(cases: pd.DataFrame, tmp_path: Path) -> None:
    write_prepared(cases, preparer_for(cases), TASK, tmp_path / "prepared")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "prepared").iterdir())
    assert b"p0001" not in stored
