"""A network that is no backbone of timm is one file: its function, its hyperparameters, its layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
import yaml
from pydantic import Field
from torch import nn

from medloop.bundle.predictor import Predictor
from medloop.models import MODELS, Model
from medloop.models.backbone import Classifier, classifier_on
from medloop.steps.compare import compare_models
from medloop.steps.project import load_project
from medloop.storage import read_json
from tests.loop_project import copied, medloop, run_stages


class Convolutions(nn.Module):
    """Two convolutions, whose second may add what it was given."""

    def __init__(self, *, channels: int, filters: int, residual: bool, activation: str, offset: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 5, stride=2, padding=2)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.activation = nn.ReLU() if activation == "relu" else nn.GELU()
        self.residual, self.offset = residual, offset

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        first = self.activation(self.first(images) + self.offset)
        second = self.activation(self.second(first))
        return first + second if self.residual else second


def convolutions(
    *,
    filters: Annotated[int, Field(ge=1)] = 8,
    residual: bool = False,
    activation: Literal["relu", "gelu"] = "relu",
    offset: float = 0.0,
) -> Callable[..., Classifier]:
    """A small convolutional network, trained from nothing."""
    options = {"filters": filters, "residual": residual, "activation": activation, "offset": offset}
    return partial(_classifier, options)


def _classifier(
    options: dict[str, Any], *, classes: int, channels: int, size: tuple[int, int], root: Path
) -> Classifier:
    del root  # no file of weights to look for
    body = Convolutions(channels=channels, **options)
    spread = {"mean": [0.5] * channels, "std": [0.25] * channels}
    return classifier_on(body, width=options["filters"], channels=channels, size=size, classes=classes, **spread)


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_it_is_trained_exported_and_predicts(
    mode: str, finished_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "convolutions", Model(convolutions, "image"))
    folder = copied(finished_pictures, tmp_path / "project")
    recipe = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    own = {"name": "convolutions", "residual": True, "activation": "gelu", "offset": -0.1}
    recipe |= {"model": own, "train": {"mode": mode, "epochs": 2, "batch_size": 16}}
    (folder / "params.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    run_stages(folder, "train", "export", "evaluate")
    project = load_project(folder)
    assert read_json(project.work / "bundle" / "bundle.json")["model"]["params"] == {
        **{key: value for key, value in own.items() if key != "name"},
        "filters": 8,
    }
    cases = project.cases().iloc[:2]
    pictures = [(folder / path).read_bytes() for path in cases["path"]]
    predictor = Predictor.load(project.work / "bundle")
    assert predictor.heatmap(pictures[0]).startswith(b"\x89PNG")
    assert predictor.predict(pictures, patients=cases["patient_id"].tolist())
    if mode == "head":
        assert "leads with AUC" in compare_models(project, ["convolutions", "test_resnet"], repeats=1)


def test_one_slip_in_its_hyperparameters_is_refused_by_name(
    finished_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "convolutions", Model(convolutions, "image"))
    folder = copied(finished_pictures, tmp_path / "project")
    recipe = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    (folder / "params.yaml").write_text(
        yaml.safe_dump({**recipe, "model": {"name": "convolutions", "residual": 1}}), "utf-8"
    )
    ended = medloop("train", cwd=folder)
    assert ended.code == 2
    assert "model.residual of convolutions is 1, which is not accepted: a valid boolean." in ended.err
