"""Models side by side on the same folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medloop.data.split import fold_numbers
from medloop.train.compare import compare_models
from medloop.train.crossval import cross_validate
from medloop.train.learning import read_learning


def test_each_model_is_judged_on_the_same_repeats_and_the_best_comes_first(small: Path) -> None:
    learning = read_learning(small / "work" / "prepared", small / "work" / "splits.parquet")
    labels = [learning.classes[y] for y in learning.y]
    repeats = [learning.fold, fold_numbers(learning.groups, labels, folds=3, seed=1)]
    models = [("logistic_regression", {"C": 1e-6}), ("decision_tree", {"max_depth": 1}), ("logistic_regression", {})]
    compared = compare_models(learning, models, repeats, seed=0)
    means = [one.figures["roc_auc"].value for one in compared]
    assert means == sorted(means, reverse=True)
    plain = next(one for one in compared if one.params == {})
    once = cross_validate(learning, "logistic_regression", {}, seed=0).history["roc_auc"]
    assert plain.folds["roc_auc"][:3] == pytest.approx(once.tolist())
    assert plain.figures["roc_auc"].value == pytest.approx(np.mean(plain.folds["roc_auc"]))
    assert all(len(one.folds["recall"]) == 6 and one.seconds > 0 for one in compared)
