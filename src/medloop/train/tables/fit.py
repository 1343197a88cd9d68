"""The stage `train` for tables: cross-validate, then fit on all training cases."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medloop.models import hyperparameters
from medloop.models.estimator import write_estimator
from medloop.recipe import ModelSection, TrainSection
from medloop.storage import atomic_file, atomic_folder, write_json
from medloop.train.crossval import CrossValidated, cross_validate, fit
from medloop.train.learning import FOLD_DECISION, TableLearning

PACKAGES = ("medloop", "numpy", "scipy", "scikit-learn", "pandas", "skl2onnx", "onnxruntime")


def train_table(
    learning: TableLearning, model: ModelSection, section: TrainSection, *, tuned: Mapping[str, Any], folder: Path
) -> CrossValidated:
    """Write the fitted estimator, the figures of every fold and the out-of-fold probabilities."""
    params = hyperparameters(model.name, {**model.params, **tuned})
    result = cross_validate(learning, model.name, params, seed=section.seed)
    pipeline = fit(learning, model.name, params, seed=section.seed)
    with atomic_folder(folder) as target:
        write_estimator(pipeline, target / "estimator.skops")
        with atomic_file(target / "history.csv") as file:
            result.history.to_csv(file, index=False)
        with atomic_file(target / "out_of_fold.parquet") as file:
            _out_of_fold(learning, result).to_parquet(file, index=False)
        write_json(target / "model.json", {"name": model.name, "params": params, "seed": section.seed})
        write_json(target / "train.json", _facts(learning, params, result, tuned=tuned, seed=section.seed))
        write_json(target / "environment.json", environment())
    return result


def _facts(
    learning: TableLearning, params: Mapping[str, Any], result: CrossValidated, *, tuned: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return the facts of this training, for reports."""
    return {
        "task": "table",
        "seed": seed,
        "cases": len(learning.y),
        "groups": len(set(learning.groups)),
        "folds": len(result.history),
        "fold_decision": FOLD_DECISION,
        "weighting": params.get("class_weight") or "none",
        "tuned": dict(tuned),
    }


def _out_of_fold(learning: TableLearning, result: CrossValidated) -> pd.DataFrame:
    probabilities = {f"p{number}": result.probabilities[:, number] for number in range(len(learning.classes))}
    return pd.DataFrame({"case_id": learning.case_ids, "group": learning.groups, "y": learning.y, **probabilities})


def environment() -> dict[str, Any]:
    """Return the versions of Python and the libraries, and the machine type."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "machine": platform.machine(), "packages": versions}
