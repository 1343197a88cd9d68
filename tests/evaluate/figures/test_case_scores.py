"""cases.parquet holds the result for each case, and no name of a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medloop.evaluate.figures.case_scores import write_case_scores
from tests.evaluate.made_up import decider, drawn, measured


def written(folder: Path, y: Any, shares: Any, **options: Any) -> pd.DataFrame:
    judge = decider(conformal=(0.6, 0.6))
    bands = options.pop("bands", {})
    write_case_scores(folder / "cases.parquet", measured(y, shares, judge=judge, **options), judge.classes, bands)
    return pd.read_parquet(folder / "cases.parquet")


def test_each_case_has_its_label_its_probabilities_and_its_result(tmp_path: Path) -> None:
    table = written(tmp_path, [0, 1, 1], [0.1, 0.45, 0.9])
    assert table["label"].tolist() == ["no", "yes", "yes"]
    assert table["chosen"].tolist() == ["no", "no", "yes"]
    assert table["decided"].fillna("nothing").tolist() == ["no", "nothing", "yes"]
    assert table["abstained"].tolist() == [False, True, False]
    assert table["reason"][1] == "too close to call: no and yes remain possible at 90% confidence"
    assert table["remaining"].tolist() == ["no", "no | yes", "yes"]
    assert table[["p_0", "p_1"]].to_numpy() == pytest.approx(np.array([[0.9, 0.1], [0.55, 0.45], [0.1, 0.9]]))


def test_a_group_is_a_number_and_no_patient(tmp_path: Path) -> None:
    table = written(tmp_path, [0, 1, 1], [0.1, 0.4, 0.9], groups=["Miller", "Jones", "Miller"])
    assert table["group"].tolist() == [0, 1, 0]
    assert b"Miller" not in (tmp_path / "cases.parquet").read_bytes()


def test_subgroups_have_columns_that_are_null_where_unknown(tmp_path: Path) -> None:
    table = written(tmp_path, [0, 1], [0.1, 0.9], bands={"sex": ["f", None]})
    assert table["subgroup.sex"].isna().tolist() == [False, True]


def test_the_figures_of_the_report_can_be_counted_again(finished: Path, report: dict[str, Any]) -> None:
    table = pd.read_parquet(finished / "work" / "report" / "cases.parquet")
    assert len(table) == report["n_test"]
    assert table["case_id"].is_monotonic_increasing
    assert (table["chosen"] == table["label"]).mean() == pytest.approx(report["test"]["accuracy"]["value"])
    assert table["abstained"].sum() == report["abstained"]["n"]
    assert (table["decided"].isna() == table["abstained"]).all()


def test_the_same_cases_give_the_same_bytes(tmp_path: Path) -> None:
    y, shares = drawn(30)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written(tmp_path / "a", y, shares)
    written(tmp_path / "b", y, shares)
    assert (tmp_path / "a" / "cases.parquet").read_bytes() == (tmp_path / "b" / "cases.parquet").read_bytes()
