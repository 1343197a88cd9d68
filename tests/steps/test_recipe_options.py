"""Every option of `train` and `export` works in a project of pictures, from the split to a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.bundle.predictor import Predictor
from medloop.recipe import AugmentSection, ExportSection, TrainSection
from medloop.steps.project import load_project
from tests.loop_project import copied, edit_recipe, run_stages

FINETUNE = {"mode": "finetune", "epochs": 2, "batch_size": 16, "learning_rate": 3e-3}
# What each recipe sets besides the project's own, as (train, export).
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "regularised": (
        {
            **FINETUNE,
            "seed": 1,
            "precision": "fp32",
            "deterministic": True,
            "balance": "sampler",
            "patience": 1,
            "weight_decay": 0.1,
            "warmup": 0.2,
            "label_smoothing": 0.1,
            "mixup": 0.2,
            "ema": 0.9,
            "clip": 0.5,
        },
        {"precision": "int8", "calibrate": False},
    ),
    "frozen": (
        {
            **FINETUNE,
            "freeze": True,
            "cross_validate": True,
            "balance": "weights",
            "augment": {
                "flip_horizontal": True,
                "flip_vertical": True,
                "rotate": 30,
                "shift": 0.1,
                "scale": 0.2,
                "brightness": 0.2,
                "contrast": 0.2,
                "noise": 0.05,
            },
        },
        {"precision": "fp32", "threshold": "youden", "combine": "max"},
    ),
    "half precision": (
        {**FINETUNE, "precision": "bf16", "backbone_factor": 0.5},
        {"per": "case", "threshold": "sensitivity >= 0.9 with 80% confidence"},
    ),
    "head of several views": (
        {"mode": "head", "views": 2, "head_c": 0.1, "balance": "weights"},
        {"combine": "noisy-or", "parity": 1e-3, "conformal_alpha": 0.2, "outlier_quantile": 0.95},
    ),
}


def test_no_option_is_left_out() -> None:
    for place, section in ((0, TrainSection), (1, ExportSection)):
        assert {name for recipe in RECIPES.values() for name in recipe[place]} == set(section.model_fields)
    changed = {name for train, _ in RECIPES.values() for name in train.get("augment", {})}
    assert changed == set(AugmentSection.model_fields)


@pytest.mark.parametrize(("train", "export"), RECIPES.values(), ids=RECIPES)
def test_a_model_of_these_options_is_trained_exported_and_predicts(
    train: dict[str, Any], export: dict[str, Any], finished_pictures: Path, tmp_path: Path
) -> None:
    folder = copied(finished_pictures, tmp_path / "project")
    edit_recipe(folder, model={"backbone": "test_resnet"}, train=train, export=export)
    run_stages(folder, "train", "export")
    project = load_project(folder)
    predictor = Predictor.load(project.work / "bundle")
    recorded = {name: predictor.meta["recipe"]["train"][name] for name in train}
    assert recorded == {**train, **({"augment": recorded["augment"]} if "augment" in train else {})}
    cases = project.cases().iloc[:4]
    pictures = [(folder / path).read_bytes() for path in cases["path"]]
    patients = cases["patient_id"].tolist()
    predictions = predictor.predict(pictures, patients=patients)
    assert len(predictions) == (len(set(patients)) if predictor.needs_patients else len(pictures))
    assert all(sum(one.probabilities.values()) == pytest.approx(1) for one in predictions)
