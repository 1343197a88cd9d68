"""The train stage for images: what it writes, from which cases, in both modes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.models.backbone import build_classifier
from medloop.recipe import ModelSection, TrainSection
from medloop.storage import read_json
from medloop.train.images.device import batch_on
from medloop.train.images.learn import TrainedImages, train_images
from tests.train.images.pictures import TINY, read_pictures, write_pictures

QUICK = TrainSection(mode="finetune", epochs=2, batch_size=16)
FILES = {"weights.safetensors", "model.json", "train.json", "history.csv", "held_out.parquet", "environment.json"}


def trained(
    pictures: Path, out: Path, section: TrainSection, model: ModelSection = TINY, **tuned: Any
) -> TrainedImages:
    return train_images(
        pictures / "prepared",
        pictures / "splits.parquet",
        model,
        section,
        tuned=tuned,
        folder=out / "trained",
        cache=out / "cache",
        root=out,
    )


def stored_probabilities(pictures: Path, out: Path, case_ids: list[str]) -> Any:
    learning = read_pictures(pictures)
    model = build_classifier(classes=len(learning.classes), channels=1, size=32, backbone="test_resnet")
    model.load_state_dict(load_file(out / "trained" / "weights.safetensors"))
    rows = np.array([learning.case_ids.index(name) for name in case_ids])
    with torch.inference_mode():
        logits = model.eval()(batch_on(torch.from_numpy(learning.pixels(rows)), torch.device("cpu")).float())[0]
    return logits.double().softmax(1).numpy()


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_the_stored_weights_give_the_stored_probabilities(mode: Any, pictures: Path, tmp_path: Path) -> None:
    result = trained(pictures, tmp_path, QUICK.model_copy(update={"mode": mode, "precision": "fp32"}))
    assert {path.name for path in (tmp_path / "trained").iterdir()} == FILES
    held = pd.read_parquet(tmp_path / "trained" / "held_out.parquet")
    assert list(held) == ["case_id", "group", "y", "p0", "p1", "p2"]
    found = stored_probabilities(pictures, tmp_path, held["case_id"].tolist())
    assert np.allclose(found, held[["p0", "p1", "p2"]], atol=1e-4)
    model = read_json(tmp_path / "trained" / "model.json")
    assert (model["mode"], model["params"]["backbone"], model["head_C"]) == (mode, "test_resnet", result.head_c)
    assert (model["head_C"] is None) == (mode == "finetune")
    assert "torch" in read_json(tmp_path / "trained" / "environment.json")["packages"]


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_the_history_has_every_metric(mode: Any, pictures: Path, tmp_path: Path) -> None:
    result = trained(pictures, tmp_path, QUICK.model_copy(update={"mode": mode}))
    assert {"fold", "epoch", "train_loss", "val_loss", "seconds", "images_per_s", *METRICS} <= set(result.history)
    assert result.history["fold"].tolist() == [-1] * (1 if mode == "head" else 2)


def test_test_cases_are_neither_learned_from_nor_measured(pictures: Path, tmp_path: Path) -> None:
    learning = read_pictures(pictures)
    parts = pd.read_parquet(pictures / "splits.parquet").set_index("case_id")["part"]
    assert set(parts[learning.case_ids]) == {"train", "val"}
    held = trained(pictures, tmp_path, QUICK).held_out
    assert sorted(held["case_id"]) == sorted(parts.index[parts == "val"])


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_without_val_a_fold_chooses(mode: Any, pictures_without_val: Path, tmp_path: Path) -> None:
    held = trained(pictures_without_val, tmp_path, QUICK.model_copy(update={"mode": mode})).held_out
    splits = pd.read_parquet(pictures_without_val / "splits.parquet").set_index("case_id")
    assert sorted(held["case_id"]) == sorted(splits.index[splits["fold"] == 0])


@pytest.mark.parametrize("mode", ["head", "finetune"])
@pytest.mark.parametrize("folder", ["pictures", "pictures_without_val"])
def test_folds_hold_every_training_case_out_once(
    mode: Any, folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pictures = request.getfixturevalue(folder)
    section = QUICK.model_copy(update={"mode": mode, "cross_validate": True, "epochs": 1})
    result = trained(pictures, tmp_path, section)
    parts = pd.read_parquet(pictures / "splits.parquet").set_index("case_id")["part"]
    assert sorted(result.held_out["case_id"]) == sorted(parts.index[parts == "train"])
    assert result.history["fold"].tolist() == [0, 1, 2, -1]


def test_no_turn_measures_what_it_learned_or_chose_on(pictures: Path, pictures_without_val: Path) -> None:
    for folder in (pictures, pictures_without_val):
        learning = read_pictures(folder)
        groups = np.array(learning.groups)
        for turn in learning.fold_turns():
            seen, watched, held = (set(groups[rows]) for rows in (turn.seen, turn.watched, turn.held))
            assert len(seen | watched | held) == len(seen) + len(watched) + len(held)


def test_two_folds_without_val_cannot_be_cross_validated(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", count=30, val=0.0)
    splits = pd.read_parquet(pictures / "splits.parquet")
    splits["fold"] = splits["fold"].clip(upper=1)
    splits.to_parquet(pictures / "splits.parquet")
    with pytest.raises(UserError, match=r"split\.val"):
        trained(pictures, tmp_path, QUICK.model_copy(update={"cross_validate": True}))


def test_a_second_head_uses_the_features_of_the_first(pictures: Path, tmp_path: Path) -> None:
    section = TrainSection(mode="head", views=2)
    first = trained(pictures, tmp_path, section)
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "features").iterdir()}
    second = trained(pictures, tmp_path, section, head_c=1e-4)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "features").iterdir()} == stored
    assert len(stored) == 2
    assert second.head_c == 1e-4 != first.head_c


def test_finetuning_learns_the_sizes_of_discs_from_nothing(pictures: Path, tmp_path: Path) -> None:
    section = TrainSection(mode="finetune", epochs=25, batch_size=8, learning_rate=3e-3, patience=0)
    assert trained(pictures, tmp_path, section).history["roc_auc"].max() > 0.95


def test_a_head_for_two_classes(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", count=60, classes=2)
    result = trained(pictures, tmp_path, TrainSection(mode="head", precision="fp32"))
    found = stored_probabilities(pictures, tmp_path, result.held_out["case_id"].tolist())
    assert np.allclose(found, result.held_out[["p0", "p1"]], atol=1e-4)


def test_the_champion_is_a_start(pictures: Path, tmp_path: Path) -> None:
    trained(pictures, tmp_path / "first", QUICK)
    weights = tmp_path / "first" / "trained" / "weights.safetensors"
    model = ModelSection.model_validate({**TINY.model_dump(), "weights": str(weights)})
    section = QUICK.model_copy(update={"learning_rate": 1e-12, "precision": "fp32", "epochs": 1})
    second = trained(pictures, tmp_path / "second", section, model)
    before = stored_probabilities(pictures, tmp_path / "first", second.held_out["case_id"].tolist())
    # The running statistics of the batch-norm move even so.
    assert np.abs(before - second.held_out[["p0", "p1", "p2"]]).max().max() < 0.2
    assert np.array_equal(
        load_file(weights)["head.bias"].round(decimals=4),
        load_file(tmp_path / "second" / "trained" / "weights.safetensors")["head.bias"].round(decimals=4),
    )


def test_a_model_for_tables_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="backbone"):
        trained(pictures, tmp_path, QUICK, ModelSection(name="svc"))


@pytest.mark.parametrize(
    ("change", "trains_all"), [({}, True), ({"freeze": True}, False), ({"mode": "head"}, False)], ids=str
)
def test_a_training_reports_its_size_first_and_then_its_epochs(
    change: dict[str, Any], trains_all: bool, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(pictures, tmp_path, QUICK.model_copy(update=change))
    lines = [line for line in capsys.readouterr().err.splitlines() if "parameters" in line or "epoch 1 of 2 " in line]
    total, trainable = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:param|train)", lines[0]))
    assert trainable == (total if trains_all else 3 * 96 + 3)
    if "mode" not in change:
        assert all(word in lines[1] for word in ("loss", "val", "AUC", "images/s", "left"))
