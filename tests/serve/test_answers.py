"""Inputs that are answered together get the answers that they would get alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.serve.answers import Answer, answer_images, answer_rows
from tests.bundle.image_bundles import draw_discs, png


def said(answer: Any) -> Prediction:
    assert isinstance(answer, Answer)
    return replace(answer.prediction, id="", latency_ms=0.0)


def test_pictures_are_answered_as_if_alone(image_predictor: Predictor, scans: list[bytes]) -> None:
    large = png(draw_discs(1, seed=3)[0].pixels.repeat(9, axis=0).repeat(9, axis=1))
    files = [scans[0], b"no picture", scans[1], large, b""]
    answers = answer_images(image_predictor, files, keep=True)
    alone = [answer_images(image_predictor, [data], keep=True)[0] for data in files]
    assert [isinstance(answer, RejectedInput) for answer in answers] == [False, True, False, False, True]
    for one, other in zip(answers, alone, strict=True):
        if isinstance(one, RejectedInput):
            assert str(one) == str(other)
        else:
            assert isinstance(other, Answer)
            assert said(one) == said(other)
            assert (one.sha256, one.png, one.size) == (other.sha256, other.png, other.size)
            assert 0 < one.decode_seconds * 1000 < one.prediction.latency_ms


def test_where_all_files_are_broken_there_are_only_reasons(image_predictor: Predictor) -> None:
    answers = answer_images(image_predictor, [b"", b"no picture"], keep=True)
    assert [type(answer) for answer in answers] == [RejectedInput, RejectedInput]


def test_rows_are_answered_as_if_alone(predictor: Predictor, rows: list[Row]) -> None:
    places = [f"records.{number}" for number in range(len(rows) - 1)]
    answers = answer_rows(predictor, [(rows[:1], ["features"]), (rows[1:], places)])
    alone = [answer_rows(predictor, [([row], ["features"])])[0] for row in rows]
    together = [one for given in answers if not isinstance(given, RejectedInput) for one in given]
    for one, given, row in zip(together, alone, rows, strict=True):
        assert not isinstance(given, RejectedInput)
        assert (one.row, one.sha256) == (row, given[0].sha256)
        assert one.prediction.label == given[0].prediction.label
        assert one.prediction.probabilities == pytest.approx(given[0].prediction.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"age (years)": "old"}, "records.1: 'age .years.' must be a number"), ({"age (years)": 1e300}, "records.1: ")],
)
def test_a_wrong_row_is_the_fault_of_its_own_request(
    predictor: Predictor, rows: list[Row], wrong: Row, words: str
) -> None:
    places = ["records.0", "records.1"]
    right, refused = answer_rows(predictor, [(rows[:2], places), ([rows[0], {**rows[1], **wrong}], places)])
    assert isinstance(refused, RejectedInput)
    assert not isinstance(right, RejectedInput)
    assert len(right) == 2
    with pytest.raises(RejectedInput, match=words):
        raise refused
