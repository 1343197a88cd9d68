"""Tuning searches the declared ranges, goes on where it stopped, and says what it does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.errors import UnknownName, UserError
from medloop.recipe import ModelSection, TuneSection
from medloop.train.learning import TableLearning, read_learning
from medloop.train.tune import tune_table

MODEL = ModelSection(name="logistic_regression")
SPACE = {"C": {"low": 0.01, "high": 10.0, "log": True}, "class_weight": {"choices": ["balanced", None]}}


@pytest.fixture(scope="module")
def learning(small: Path) -> TableLearning:
    return read_learning(small / "work" / "prepared", small / "work" / "splits.parquet")


def tuned(learning: TableLearning, study: Path, **section: Any) -> tuple[dict[str, Any], Any]:
    content = TuneSection.model_validate({"trials": 4, "metric": "roc_auc", "space": SPACE, **section})
    return tune_table(learning, MODEL, content, seed=0, study=study)


def test_the_best_lies_in_the_ranges_and_is_the_least_far_from_ideal(learning: TableLearning, tmp_path: Path) -> None:
    best, trials = tuned(learning, tmp_path / "study.db")
    assert 0.01 <= best["C"] <= 10
    assert len(trials) == 4
    assert trials.loc[trials["roc_auc_from_ideal"].idxmin(), "C"] == best["C"]


def test_an_interrupted_study_goes_on(learning: TableLearning, tmp_path: Path) -> None:
    tuned(learning, tmp_path / "study.db", trials=2)
    first = tuned(learning, tmp_path / "study.db", trials=2)[1]
    _, trials = tuned(learning, tmp_path / "study.db", trials=3)
    assert (len(first), len(trials)) == (2, 3)
    assert trials["C"].tolist()[:2] == first["C"].tolist()


def test_a_loss_is_made_small_and_a_score_large(learning: TableLearning, tmp_path: Path) -> None:
    space = {"C": {"choices": [1e-6, 1.0]}}
    for metric in ("brier", "roc_auc"):
        best, _ = tuned(learning, tmp_path / f"{metric}.db", metric=metric, space=space, trials=4)
        assert best == {"C": 1.0}, metric


def test_no_trials_keep_the_recipe(learning: TableLearning, tmp_path: Path) -> None:
    best, trials = tuned(learning, tmp_path / "study.db", trials=0)
    assert (best, len(trials)) == ({}, 0)
    assert not (tmp_path / "study.db").exists()


@pytest.mark.parametrize(
    ("section", "error", "told"),
    [
        ({"metric": "auc"}, UnknownName, "tune.metric must be a known name"),
        ({"space": {"c": {"low": 1, "high": 2}}}, UnknownName, "did you mean 'C'"),
        ({"space": {}}, UserError, "tuning needs ranges"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    learning: TableLearning, tmp_path: Path, section: dict[str, Any], error: type[UserError], told: str
) -> None:
    with pytest.raises(error, match=told):
        tuned(learning, tmp_path / "study.db", **section)
