"""Models side by side on the same folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.data.split import fold_numbers
from medloop.recipe import TrainSection
from medloop.train.compare import compare_models, table_candidate
from medloop.train.crossval import cross_validate
from medloop.train.images.candidates import image_candidate
from medloop.train.learning import read_learning
from tests.train.images.pictures import TINY, read_pictures


def test_each_model_is_judged_on_the_same_repeats_and_the_best_comes_first(small: Path) -> None:
    learning = read_learning(small / "work" / "prepared", small / "work" / "splits.parquet")
    labels = [learning.classes[y] for y in learning.y]
    repeats = [learning.fold, fold_numbers(learning.groups, labels, folds=3, seed=1)]
    models = {"weak": ("logistic_regression", {"C": 1e-6}), "tree": ("decision_tree", {"max_depth": 1})}
    models["plain"] = ("logistic_regression", {})
    candidates = [
        replace(table_candidate(learning, *model, says="", seed=0), name=name) for name, model in models.items()
    ]
    compared = compare_models(candidates, repeats)
    means = [one.figures["roc_auc"].value for one in compared]
    assert means == sorted(means, reverse=True)
    plain = next(one for one in compared if one.name == "plain")
    once = cross_validate(learning, "logistic_regression", {}, seed=0).history["roc_auc"]
    assert plain.folds["roc_auc"][:3] == pytest.approx(once.tolist())
    assert plain.figures["roc_auc"].value == pytest.approx(np.mean(plain.folds["roc_auc"]))
    assert all(len(one.folds["recall"]) == 6 and one.seconds > 0 for one in compared)


@pytest.mark.parametrize("mode", ["head", "finetune"])
@pytest.mark.parametrize("folder", ["pictures", "pictures_without_val"])
def test_backbones_are_judged_on_the_same_repeats(
    mode: Any, folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    learning = read_pictures(request.getfixturevalue(folder))
    section = TrainSection(mode=mode, epochs=1, precision="fp32")
    candidate = image_candidate(learning, TINY, section, name="tiny", cache=tmp_path, root=tmp_path)
    compared = compare_models([candidate], [learning.fold, learning.fold])[0]
    folds = compared.folds["roc_auc"]
    assert (len(folds), folds[:3]) == (6, folds[3:])
    assert compared.says.endswith("million weights, from none")
    assert len(list(tmp_path.glob("features/*.npy"))) == (1 if mode == "head" else 0)
    assert not list(tmp_path.glob("checkpoints/*"))
