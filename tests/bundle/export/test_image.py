"""From a trained network to a bundle: faithful, in 8 bits where that decides the same, fitted on nothing locked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medloop.bundle import files
from medloop.bundle.calibrate import fit_wide_outliers
from medloop.bundle.export.image import describe_export
from medloop.bundle.export.network_onnx import OUTPUTS, check_image_parity, image_graph, with_head
from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.models.augment import Views
from medloop.models.backbone import Classifier, build_classifier
from medloop.models.head import Head, HeadLearner
from medloop.recipe import AugmentSection
from tests.bundle.image_bundles import CLASSES, PARAMS, SIZE, draw_discs, export_project, png, write_project

BACKBONES = (
    *("resnet18", "vgg16", "efficientnet_b0", "mobilenetv3_small_100", "densenet121", "convnext_tiny"),
    "vit_small_patch16_224",
)


def meta_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "bundle" / files.META).read_text("utf-8"))
    return content


def network(folder: Path) -> Classifier:
    model = build_classifier(classes=2, channels=1, size=SIZE, **PARAMS)  # type: ignore[arg-type]
    model.load_state_dict(load_file(folder / "bundle" / files.WEIGHTS))
    return model.eval()


def some_pixels(count: int = 5) -> np.ndarray[Any, Any]:
    return np.stack([disc.pixels for disc in draw_discs(count, seed=11)])[:, None].astype(np.float32)


def run(folder: Path, pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(folder / "bundle" / files.MODEL, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": pixels}), strict=True))


def test_the_bundle_holds_what_serving_and_a_warm_start_need(discs: Path) -> None:
    names = {path.name for path in (discs / "bundle").iterdir()}
    assert names == {files.MODEL, files.META, files.REFERENCE, files.WEIGHTS, files.CHECKSUMS}
    meta = meta_of(discs)
    assert (meta["task"], meta["preparer"]["kind"], meta["classes"]) == ("images", "image", list(CLASSES))
    assert meta["decide"] == {"per": "case", "rule": "mean"}
    assert meta["n_train"] == 160
    assert meta["parity"] <= 1e-4


def test_the_graph_takes_any_number_of_pictures_and_its_map_adds_up_to_the_logits(discs: Path) -> None:
    bias = network(discs).head.bias.detach().numpy()
    for count in (1, 5):
        found = run(discs, some_pixels(count))
        assert [len(found[name]) for name in OUTPUTS] == [count] * 3
        assert found["cam"].mean((2, 3)) + bias == pytest.approx(found["logits"], abs=1e-4)


def test_the_weights_for_a_warm_start_are_those_that_serve(heads: Path) -> None:
    head = network(heads).head
    found = run(heads, some_pixels())
    expected = found["embedding"] @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert found["logits"] == pytest.approx(expected, abs=1e-4)


def test_the_bundle_decides_right_about_cases_it_has_not_seen(discs: Path) -> None:
    new = draw_discs(60, seed=23)
    predictor = Predictor.load(discs / "bundle")
    scores = predictor.score([png(disc.pixels) for disc in new])
    assert np.mean(predictor.decider.choices(scores.probabilities) == [disc.y for disc in new]) >= 0.9


def test_a_head_is_fitted_on_the_features_that_serve(heads: Path) -> None:
    meta, head = meta_of(heads), network(heads).head
    index = json.loads((heads / "prepared" / "index.json").read_text("utf-8"))
    parts = pd.read_parquet(heads / "splits.parquet")["part"].to_numpy()
    images = np.load(heads / "prepared" / "images.npy")[parts == "train"].transpose(0, 3, 1, 2).astype(np.float32)
    y = np.array([CLASSES.index(label) for label in index["labels"]])[parts == "train"]
    features = run(heads, images)["embedding"]
    fitted = HeadLearner([features], y).fit(0.1).logits(features)
    assert meta["precision"]["used"] == "int8"
    # Not weight by weight: on features that hardly move in 8 bits, processors differ by a step.
    served = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert served == pytest.approx(fitted, abs=0.02 * np.abs(fitted).max())


def test_without_a_calib_part_a_head_decides_by_what_its_folds_say(heads: Path) -> None:
    found = meta_of(heads)["calibration"]
    assert (found["fitted_on"], found["method"], found["folds"]) == ("out-of-fold training cases", "out_of_fold", 4)
    assert (found["n"], found["patients"]) == (160, 80)
    assert found["by_class"] == {name: {"cases": 80, "patients": 40} for name in CLASSES}
    assert (found["refitted"], found["exact"], found["also_chose"]) == (True, False, ["head_C"])


def test_validation_cases_are_one_more_fold_of_a_head(tmp_path: Path) -> None:
    parts = {"train": 80, "val": 40, "test": 20}
    meta = export_project(write_project(tmp_path / "val", mode="head", parts=parts), precision="fp32")
    found = meta["calibration"]
    assert found["fitted_on"] == "out-of-fold training and validation cases"
    assert (found["n"], found["folds"], meta["n_train"]) == (120, 5, 120)
    assert meta["cross_validation"]["n"] == [20, 20, 20, 20, 40]
    assert meta["cross_validation"]["n_train"] == [100, 100, 100, 100, 80]


def test_a_calib_part_is_fitted_on_by_nothing_else(discs: Path) -> None:
    found = meta_of(discs)["calibration"]
    assert (found["fitted_on"], found["method"], found["n"]) == ("the calib part", "calib", 100)
    assert (found["refitted"], found["exact"], found["also_chose"]) == (False, True, [])


def test_cases_that_chose_the_epoch_are_said_to_have_chosen_it(tmp_path: Path) -> None:
    parts = {"train": 80, "val": 40, "test": 20}
    found = export_project(write_project(tmp_path / "val", mode="finetune", parts=parts, epochs=1))["calibration"]
    assert (found["method"], found["n"], found["also_chose"], found["exact"]) == ("val", 40, ["epoch"], False)


def test_figures_of_folds_are_those_of_the_served_rule(heads: Path) -> None:
    meta = meta_of(heads)
    assert meta["cross_validation_rule"] == "served"
    assert meta["cross_validation"]["fold"] == [0, 1, 2, 3]
    assert set(meta["cross_validation"]) == {"fold", "n_train", "n", *METRICS}
    # Of patients, as the bundle decides: a fold of 20 patients has no other shares of its ten positive ones.
    assert all(round(share * 10, 9) % 1 == 0 for share in meta["cross_validation"]["recall"])


def test_without_folds_there_is_one_figure_over_what_was_held_out(discs: Path) -> None:
    found = meta_of(discs)["cross_validation"]
    assert (found["fold"], found["n"]) == ([-1], [60])
    assert set(found) == {"fold", "n", *METRICS}


def test_locked_test_cases_change_nothing(discs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(discs, copy)
    images = np.load(copy / "prepared" / "images.npy")
    test = (pd.read_parquet(copy / "splits.parquet")["part"] == "test").to_numpy()
    images[test] = 0
    np.save(copy / "prepared" / "images.npy", images)
    again = export_project(copy, threshold="sensitivity >= 0.95")
    before = meta_of(discs)
    assert {**again, "created": 0} == {**before, "created": 0}


def test_held_out_cases_of_the_test_part_are_refused(discs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(discs, copy)
    splits = pd.read_parquet(copy / "splits.parquet")
    splits["part"] = splits["part"].replace({"val": "test", "calib": "test"})
    splits.to_parquet(copy / "splits.parquet")
    with pytest.raises(UserError, match="on which nothing may be fitted"):
        export_project(copy)


def test_the_reference_is_small_however_wide_the_embedding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen, unseen = rng.normal(size=(300, 2048)), rng.normal(size=(100, 2048))
    outliers = fit_wide_outliers(seen, unseen, quantile=0.99, seed=0)
    assert np.mean(outliers.distances(unseen) > outliers.limit) <= 0.02
    assert (outliers.distances(unseen + 3.0) > outliers.limit).all()
    coordinates = outliers.coordinates(rng.normal(size=(1000, 2048))).astype(np.float32)
    assert coordinates.nbytes + np.asarray(outliers.directions).nbytes < 1_500_000


def test_the_command_prints_the_precision_and_the_rule(discs: Path) -> None:
    meta = meta_of(discs)
    line = describe_export(meta)
    assert f"precision {meta['precision']['used']}" in line
    assert f"threshold {meta['threshold']['value']:.3f} by sensitivity >= 0.95" in line
    assert line.endswith(", fitted on the calib part")


def test_a_graph_that_differs_is_no_bundle(discs: Path) -> None:
    model, pictures = network(discs), np.stack([disc.pixels for disc in draw_discs(4, seed=3)])[..., None]
    graph = image_graph(model, pictures)
    weight, bias = (values.detach().numpy().astype(float) for values in (model.head.weight, model.head.bias))
    head = Head(weight=weight * 1.1, bias=bias, strength=1.0)
    assert check_image_parity(model, graph, pictures, bound=1e-4) <= 1e-4
    other = with_head(graph, head)
    with pytest.raises(UserError, match=r"differs from torch by .*, more than 0\.0001 \(export\.parity\)"):
        check_image_parity(model, other, pictures, bound=1e-4)


def test_a_head_is_fitted_again_on_all_views_that_training_chose_it_on(heads: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(heads, copy)
    model = json.loads((copy / "trained" / "model.json").read_text("utf-8"))
    views = Views(count=3, augment=AugmentSection(rotate=90, brightness=0.3), seed=5, batch_size=17)
    (copy / "trained" / "model.json").write_text(json.dumps({**model, "views": views.to_json()}), "utf-8")
    export_project(copy, precision="fp32")
    parts = pd.read_parquet(copy / "splits.parquet")["part"].to_numpy()
    drawn = np.flatnonzero(parts != "test")
    assert set(parts[drawn]) == {"train"}
    images = torch.from_numpy(np.load(copy / "prepared" / "images.npy")).permute(0, 3, 1, 2)
    seen = [
        np.concatenate(
            [
                run(copy, batch.numpy())["embedding"]
                for batch in views.changed(view, (images[drawn[rows]] for rows in views.batches(len(drawn))))
            ]
        )
        for view in range(3)
    ]
    labels = json.loads((copy / "prepared" / "index.json").read_text("utf-8"))["labels"]
    y = np.array([CLASSES.index(label) for label in labels])[drawn]
    served, on_plain = network(copy).head.weight.detach().numpy(), HeadLearner(seen[:1], y).fit(0.1).weight
    expected = HeadLearner(seen, y).fit(0.1).weight
    assert served == pytest.approx(expected, rel=0.02, abs=0.02 * np.abs(expected).max())
    assert np.abs(served - on_plain).max() > 0.1 * np.abs(expected).max()
