"""Bytes of images in, answers out; what the model should not judge is said and not judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from medloop.bundle import files
from medloop.bundle.patients import combine_slices
from medloop.bundle.predictor import Predictor
from medloop.errors import BrokenBundle, RejectedInput, UserError
from tests.bundle.image_bundles import CLASSES, SIZE, draw_discs, png
from tests.decode.dicom_files import dicom, ramp
from tests.decode.picture_files import colour, huge_png, jpeg

DISCS = draw_discs(24, seed=31)
FILES = [png(disc.pixels) for disc in DISCS]


@pytest.fixture(scope="module")
def predictor(discs: Path) -> Predictor:
    return Predictor.load(discs / "bundle")


@pytest.fixture(scope="module")
def by_patient(heads: Path) -> Predictor:
    return Predictor.load(heads / "bundle")


def test_predictions_are_in_the_order_of_the_images(predictor: Predictor) -> None:
    answers = predictor.predict(FILES)
    alone = [predictor.predict([data])[0] for data in FILES]
    for one, other in zip(answers, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert (one.label, one.reason, one.bundle) == (other.label, other.reason, predictor.hash)
    right = [answer.label in (CLASSES[disc.y], None) for answer, disc in zip(answers, DISCS, strict=True)]
    assert np.mean(right) >= 0.9
    assert sum(answer.label is not None for answer in answers) >= 12


def test_the_format_of_the_file_does_not_matter(predictor: Predictor) -> None:
    grey = DISCS[2].pixels
    rgb = np.repeat(grey[..., None], 3, axis=2)
    bmp = bytes(cv2.imencode(".bmp", grey)[1])
    expected = predictor.predict([png(grey)])[0].probabilities
    for data in (png(rgb), bmp):
        assert predictor.predict([data])[0].probabilities == pytest.approx(expected, abs=1e-6)


def test_a_dicom_file_has_a_prediction(predictor: Predictor) -> None:
    assert set(predictor.predict([dicom(ramp())])[0].probabilities) == set(CLASSES)


def stripes() -> Any:
    return np.tile((np.arange(SIZE) % 8 < 4) * 255, (SIZE, 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(np.full((SIZE, SIZE), 90, np.uint8)), "blank picture"),
        (png(np.zeros((300, 200, 3), np.uint8)), "blank picture"),
        (jpeg(colour(200, 200)), "colour picture, but the model was trained on grey ones"),
        (png(stripes()), "far from anything seen in training"),
    ],
    ids=["grey", "black", "photo", "stripes"],
)
def test_what_the_model_cannot_know_gets_no_class_but_a_reason(predictor: Predictor, data: bytes, reason: str) -> None:
    answer = predictor.predict([FILES[0], data])[1]
    assert (answer.label, answer.abstained, answer.reason) == (None, True, reason)
    assert predictor.predict([FILES[0]])[0].reason not in ("blank picture", reason)


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", FILES[0][:200], huge_png(50_000, 50_000)])
def test_a_file_that_is_no_image_is_rejected(predictor: Predictor, data: bytes) -> None:
    with pytest.raises(RejectedInput):
        predictor.predict([FILES[0], data])


def test_a_row_is_no_image(predictor: Predictor) -> None:
    with pytest.raises(RejectedInput, match="The model takes images"):
        predictor.predict([{"age": 60.0}])
    with pytest.raises(RejectedInput, match="no cases"):
        predictor.predict([])


def test_scores_carry_what_is_wrong_with_a_picture(predictor: Predictor) -> None:
    scores = predictor.score([FILES[0], png(np.zeros((64, 64), np.uint8))])
    assert scores.complaints == [None, "blank picture"]
    assert scores.probabilities.shape == (2, 2)
    assert len(scores.embedding) == 2


def test_many_images_are_run_a_few_at_a_time(predictor: Predictor) -> None:
    many = FILES * 3
    together = predictor.score(many)
    apart = predictor.score(FILES)
    assert together.logits == pytest.approx(np.concatenate([apart.logits] * 3), abs=1e-4)


def test_the_slices_of_a_patient_become_one_prediction(by_patient: Predictor) -> None:
    patients = [f"p{number // 2}" for number in range(len(FILES))]
    scores = by_patient.score(FILES)
    answers = by_patient.predict(FILES, patients=patients)
    assert len(answers) == len(FILES) // 2
    for number, answer in enumerate(answers):
        share = scores.probabilities[2 * number : 2 * number + 2, 1].mean()
        assert answer.probabilities["disc"] == pytest.approx(share, abs=1e-9)
        if answer.label:
            assert answer.label == CLASSES[int(share >= (answer.threshold or 0))]
    with pytest.raises(RejectedInput, match="decides per patient"):
        by_patient.predict(FILES)


def test_a_bundle_that_decides_per_case_predicts_per_case(predictor: Predictor) -> None:
    assert len(predictor.predict(FILES[:4], patients=["p", "p", "q", "q"])) == 4


def test_a_blank_slice_makes_the_patient_an_abstention(by_patient: Predictor) -> None:
    blank = png(np.zeros((64, 64), np.uint8))
    answer = by_patient.predict([FILES[0], blank, FILES[1]], patients=["p", "p", "p"])
    assert [one.reason for one in answer] == ["blank picture"]


SLICES = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.6, 0.4, 0.0]])


@pytest.mark.parametrize(
    ("rule", "positive", "expected"),
    [
        ("mean", [False, True, True], [[0.55, 0.3, 0.15], [0.6, 0.4, 0.0]]),
        ("max", [False, True, True], [[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]]),
        ("max", [False] * 3, [[0.9 / 1.7, 0.5 / 1.7, 0.3 / 1.7], [0.6, 0.4, 0.0]]),
        ("noisy-or", [False, True, True], [[0.18, 0.82 * 2 / 3, 0.82 / 3], [0.6, 0.4, 0.0]]),
        ("noisy-or", [False] * 3, [[0.92 / 1.77, 0.55 / 1.77, 0.3 / 1.77], [0.6, 0.4, 0.0]]),
    ],
)
def test_slices_are_combined_by_the_rule(rule: str, positive: list[bool], expected: list[list[float]]) -> None:
    found = combine_slices(SLICES, ["b", "b", "a"], is_positive=np.array(positive), rule=rule)
    assert found == pytest.approx(np.array(expected))
    assert found.sum(axis=1) == pytest.approx(np.ones(2))


def test_the_heatmap_is_a_png_of_the_picture(predictor: Predictor) -> None:
    pixels = cv2.imdecode(np.frombuffer(predictor.heatmap(FILES[2]), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (240, 240, 3)


def test_the_heatmap_is_of_the_class_that_was_decided(predictor: Predictor) -> None:
    number = next(i for i, one in enumerate(predictor.predict(FILES)) if one.label == "disc")
    shown = predictor.heatmap(FILES[number])
    decider = predictor.decider
    try:
        predictor.decider = replace(decider, threshold=1.0)
        assert predictor.heatmap(FILES[number]) != shown
    finally:
        predictor.decider = decider


def test_a_table_has_no_heatmap(table_bundle: Path) -> None:
    with pytest.raises(UserError, match="has no heatmaps"):
        Predictor.load(table_bundle).heatmap(FILES[0])


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another size": lambda meta: meta["preparer"].update(size=[16, 16], channels=3),
    "an unknown kind": lambda meta: meta["preparer"].update(kind="sound"),
    "no limits": lambda meta: meta.pop("checks"),
    "a third class": lambda meta: meta["classes"].append("third"),
    "no preparer": lambda meta: meta.pop("preparer"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_description_that_does_not_fit_is_refused(
    discs: Path, tmp_path: Path, lie: Callable[[dict[str, Any]], Any]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(discs / "bundle", folder)
    meta = json.loads((folder / files.META).read_text("utf-8"))
    lie(meta)
    (folder / files.META).write_text(json.dumps(meta), encoding="utf-8")
    files.seal(folder)
    with pytest.raises(BrokenBundle, match=r"do not fit|conformal quantiles for"):
        Predictor.load(folder)


def test_predicting_images_loads_no_training_library(discs: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from medloop.bundle.predictor import Predictor
import medloop.bundle.batch
predictor = Predictor.load(Path({str(discs / "bundle")!r}))
print(sorted({{"torch", "sklearn", "pandas", "mlflow", "scipy", "matplotlib", "onnx", "timm"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
