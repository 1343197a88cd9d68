"""Cross-validation: no case is judged by a model that saw it, and nothing depends on order or chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.train.crossval import cross_validate, fit
from medloop.train.learning import TableLearning, measure, read_learning


@pytest.fixture(scope="module")
def learning(small: Path) -> TableLearning:
    return read_learning(small / "work" / "prepared", small / "work" / "splits.parquet")


def shuffled(learning: TableLearning, order: Any) -> TableLearning:
    return replace(
        learning,
        frame=learning.frame.iloc[order].reset_index(drop=True),
        y=learning.y[order],
        fold=learning.fold[order],
        groups=[learning.groups[i] for i in order],
        case_ids=[learning.case_ids[i] for i in order],
    )


def test_learning_holds_the_training_cases_and_no_other(learning: TableLearning, small: Path) -> None:
    splits = pd.read_parquet(small / "work" / "splits.parquet")
    assert set(learning.case_ids) == set(splits.query("part == 'train'")["case_id"])
    assert sorted(set(learning.fold)) == [0, 1, 2]
    assert (learning.classes, learning.positive) == (("benign", "malignant"), ("malignant",))
    labels = pd.read_parquet(small / "work" / "cases.parquet").set_index("case_id")["label"]
    assert [learning.classes[y] for y in learning.y] == labels.loc[learning.case_ids].tolist()


def test_each_fold_is_predicted_by_a_model_that_did_not_see_it(learning: TableLearning) -> None:
    result = cross_validate(learning, "logistic_regression", {}, seed=0)
    for number, (seen, held) in enumerate(learning.folds()):
        assert not (seen & held).any()
        alone = fit(learning, "logistic_regression", {}, seed=0, mask=seen).predict_proba(learning.frame[held])
        assert result.probabilities[held] == pytest.approx(alone)
        figures = measure(learning.y[held], alone, learning.classes, learning.positive)
        assert result.history.loc[number, list(METRICS)].to_dict() == pytest.approx(figures, abs=1e-6, nan_ok=True)


def test_every_case_is_held_out_once_and_every_fold_has_its_figures(learning: TableLearning) -> None:
    history = cross_validate(learning, "logistic_regression", {}, seed=0).history
    assert history["n"].sum() == len(learning.y)
    assert (history["n"] + history["n_train"] == len(learning.y)).all()
    assert list(history.columns) == ["fold", "n_train", "n", *METRICS]


@pytest.mark.parametrize("name", ["random_forest", "mlp", "logistic_regression"])
def test_the_same_seed_gives_the_same_figures(learning: TableLearning, name: str) -> None:
    params = {} if name == "logistic_regression" else {"random_forest": {"n_estimators": 5}, "mlp": {"hidden": 4}}[name]
    first, second = (cross_validate(learning, name, params, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.history, second.history)


def test_the_order_of_rows_does_not_matter(learning: TableLearning) -> None:
    order = np.random.default_rng(0).permutation(len(learning.y))
    mixed = cross_validate(shuffled(learning, order), "logistic_regression", {}, seed=0)
    straight = cross_validate(learning, "logistic_regression", {}, seed=0)
    pd.testing.assert_frame_equal(mixed.history, straight.history, rtol=1e-4, atol=1e-4)
    assert mixed.probabilities == pytest.approx(straight.probabilities[order], abs=1e-3)


def test_swapped_class_names_give_the_same_figures_of_the_positive_class(learning: TableLearning) -> None:
    swapped = replace(learning, y=1 - learning.y, classes=learning.classes[::-1])
    assert [swapped.classes[y] for y in swapped.y] == [learning.classes[y] for y in learning.y]
    one, other = (cross_validate(each, "logistic_regression", {}, seed=0).history for each in (learning, swapped))
    pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-3)


def test_a_class_without_training_cases_is_refused(small: Path, tmp_path: Path) -> None:
    work = small / "work"
    splits = pd.read_parquet(work / "splits.parquet")
    labels = pd.read_parquet(work / "cases.parquet").set_index("case_id")["label"]
    splits.loc[splits["case_id"].map(labels) == "malignant", "part"] = "out"
    splits.to_parquet(tmp_path / "splits.parquet")
    with pytest.raises(UserError, match="No training cases of class malignant"):
        read_learning(work / "prepared", tmp_path / "splits.parquet")
