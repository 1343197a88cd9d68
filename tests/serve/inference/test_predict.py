"""Inputs that share a batch get the same result as alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.serve.inference.predict import InferenceResult, predict_images, predict_rows
from tests.bundle.image_bundles import draw_discs, png


def prediction_of(result: Any) -> Prediction:
    assert isinstance(result, InferenceResult)
    return replace(result.prediction, id="", latency_ms=0.0)


def test_images_of_a_batch_get_the_same_result_as_alone(image_predictor: Predictor, scans: list[bytes]) -> None:
    large = png(draw_discs(1, seed=3)[0].pixels.repeat(9, axis=0).repeat(9, axis=1))
    files = [scans[0], b"no image", scans[1], large, b""]
    results = predict_images(image_predictor, files, keep=True)
    alone = [predict_images(image_predictor, [data], keep=True)[0] for data in files]
    assert [isinstance(result, RejectedInput) for result in results] == [False, True, False, False, True]
    for one, other in zip(results, alone, strict=True):
        if isinstance(one, RejectedInput):
            assert str(one) == str(other)
        else:
            assert isinstance(other, InferenceResult)
            assert prediction_of(one) == prediction_of(other)
            assert (one.sha256, one.png, one.size) == (other.sha256, other.png, other.size)
            assert 0 < one.decode_seconds * 1000 < one.prediction.latency_ms


def test_a_batch_without_a_usable_file_has_only_errors(image_predictor: Predictor) -> None:
    results = predict_images(image_predictor, [b"", b"no image"], keep=True)
    assert [type(result) for result in results] == [RejectedInput, RejectedInput]


def test_rows_of_a_batch_get_the_same_result_as_alone(predictor: Predictor, rows: list[Row]) -> None:
    places = [f"records.{number}" for number in range(len(rows) - 1)]
    results = predict_rows(predictor, [(rows[:1], ["features"]), (rows[1:], places)])
    alone = [predict_rows(predictor, [([row], ["features"])])[0] for row in rows]
    together = [one for given in results if not isinstance(given, RejectedInput) for one in given]
    for one, given, row in zip(together, alone, rows, strict=True):
        assert not isinstance(given, RejectedInput)
        assert (one.row, one.sha256) == (row, given[0].sha256)
        assert one.prediction.label == given[0].prediction.label
        assert one.prediction.probabilities == pytest.approx(given[0].prediction.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"age (years)": "old"}, "records.1: 'age .years.' is text, not a number"),
        ({"age (years)": 1e300}, "records.1: "),
    ],
)
def test_a_wrong_row_fails_its_own_request_only(predictor: Predictor, rows: list[Row], wrong: Row, words: str) -> None:
    places = ["records.0", "records.1"]
    right, refused = predict_rows(predictor, [(rows[:2], places), ([rows[0], {**rows[1], **wrong}], places)])
    assert isinstance(refused, RejectedInput)
    assert not isinstance(right, RejectedInput)
    assert len(right) == 2
    with pytest.raises(RejectedInput, match=words):
        raise refused
