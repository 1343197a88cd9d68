"""What the train stage leaves behind: an estimator without pickle, and the parameters that were really used."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from medloop.errors import UnknownName, UserError
from medloop.models.estimator import read_estimator
from medloop.recipe import ModelSection, TrainSection
from medloop.train.learning import TableLearning, read_learning
from medloop.train.tables.fit import PACKAGES, train_table


@pytest.fixture(scope="module")
def learning(small: Path) -> TableLearning:
    return read_learning(small / "work" / "prepared", small / "work" / "splits.parquet")


def test_the_stage_leaves_its_files(small: Path) -> None:
    trained = small / "work" / "trained"
    names = {path.name for path in trained.iterdir()}
    described = {"model.json", "train.json", "environment.json"}
    assert names == {"estimator.skops", "history.csv", "out_of_fold.parquet", *described}
    environment = json.loads((trained / "environment.json").read_text("utf-8"))
    assert set(environment["packages"]) == set(PACKAGES)


def test_the_estimator_holds_no_pickle(small: Path) -> None:
    with zipfile.ZipFile(small / "work" / "trained" / "estimator.skops") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    assert not any(content.startswith(b"\x80") for content in contents)


def test_the_parameters_are_the_ones_that_were_used(learning: TableLearning, tmp_path: Path) -> None:
    section = ModelSection.model_validate({"name": "logistic_regression", "C": 3.0})
    train_table(learning, section, TrainSection(seed=5), tuned={"C": 0.25}, folder=tmp_path / "trained")
    stored = json.loads((tmp_path / "trained" / "model.json").read_text("utf-8"))
    estimator = read_estimator(tmp_path / "trained" / "estimator.skops").named_steps["estimate"]
    used = {name: getattr(estimator, name) for name in stored["params"]}
    assert stored == {"name": "logistic_regression", "params": used, "seed": estimator.random_state}
    assert (used["C"], stored["seed"]) == (0.25, 5)


def test_the_final_model_is_fitted_on_all_training_cases(learning: TableLearning, small: Path) -> None:
    pipeline = read_estimator(small / "work" / "trained" / "estimator.skops")
    scaler = pipeline.named_steps["prepare"].named_transformers_["numbers"][-1]
    assert set(scaler.n_samples_seen_.tolist() if scaler.n_samples_seen_.ndim else [scaler.n_samples_seen_]) == {120}
    assert len(learning.y) == 120


def test_out_of_fold_predictions_are_of_the_training_cases(learning: TableLearning, small: Path) -> None:
    table = pd.read_parquet(small / "work" / "trained" / "out_of_fold.parquet")
    assert table["case_id"].tolist() == learning.case_ids
    assert table[["p0", "p1"]].sum(axis=1).to_numpy() == pytest.approx(1)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ({"name": "logistic_regresion"}, UnknownName, "Did you mean 'logistic_regression'"),
        ({"name": "logistic_regression", "c": 1}, UnknownName, "Did you mean 'C'"),
        (
            {"name": "random_forest", "n_estimators": "many"},
            UserError,
            r"n_estimators of random_forest is 'many'",
        ),
    ],
)
def test_an_unknown_model_or_hyperparameter_is_refused(
    learning: TableLearning, tmp_path: Path, model: dict[str, object], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_table(learning, ModelSection.model_validate(model), TrainSection(), tuned={}, folder=tmp_path / "trained")
    assert not (tmp_path / "trained").exists()
