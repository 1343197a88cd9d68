"""The golden bundle goes on giving its answers, whatever way it is asked."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from tests.golden.make_table_bundle import ANSWERS, answers

KNOWN: list[dict[str, Any]] = json.loads(ANSWERS.read_text("utf-8"))


@pytest.fixture(scope="module")
def predictor(golden: Path) -> Predictor:
    return Predictor.load(golden)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [one["record"] for one in KNOWN]


def assert_same(found: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    """The same answers; sums over another number of rows may differ in the last digit."""
    for one, other in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
        assert (one.label, one.conformal_set, one.reason) == (other.label, other.conformal_set, other.reason)


def test_the_answers_are_the_recorded_ones(predictor: Predictor) -> None:
    for now, known in zip(answers(predictor), KNOWN, strict=True):
        assert now["probabilities"] == pytest.approx(known["probabilities"], abs=1e-6)
        assert {**now, "probabilities": None} == {**known, "probabilities": None}


def test_the_recorded_answers_show_every_kind(rows: list[Row]) -> None:
    assert {one["label"] for one in KNOWN} == {"benign", "malignant", None}
    assert any(set(record.values()) == {None} for record in rows)


def test_one_by_one_is_the_same_as_all_at_once(predictor: Predictor, rows: list[Row]) -> None:
    assert_same([predictor.predict([row])[0] for row in rows], predictor.predict(rows))


def test_the_order_of_rows_and_columns_does_not_matter(predictor: Predictor, rows: list[Row]) -> None:
    draw = random.Random(0)  # noqa: S311 - an order, not a secret
    order = draw.sample(range(len(rows)), len(rows))
    mixed = [dict(draw.sample(sorted(rows[number].items()), len(rows[number]))) for number in order]
    expected = predictor.predict(rows)
    assert_same(predictor.predict(mixed), [expected[number] for number in order])


def test_many_threads_get_their_own_answers(predictor: Predictor, rows: list[Row]) -> None:
    expected = predictor.predict(rows)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: predictor.predict([rows[number % len(rows)]]), range(200)))
    assert_same([one for (one,) in found], [expected[number % len(rows)] for number in range(200)])


def test_a_prediction_carries_what_it_comes_from(predictor: Predictor, rows: list[Row]) -> None:
    first, second = predictor.predict(rows[:2])
    assert first.id != second.id
    assert (first.model, first.version, first.bundle) == ("golden", "unregistered", predictor.hash)
    assert first.threshold == predictor.meta["threshold"]["value"]
    assert first.latency_ms > 0
    assert sum(first.probabilities.values()) == pytest.approx(1)


def test_ids_are_of_their_own_and_come_in_the_order_of_the_answers(predictor: Predictor, rows: list[Row]) -> None:
    ids = [one.id for _ in range(3) for one in predictor.predict(rows[:1])]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_the_model_has_one_typed_input_a_column_under_its_own_name(golden: Path) -> None:
    session = onnxruntime.InferenceSession(golden / "model.onnx", providers=["CPUExecutionProvider"])
    assert {one.name: one.type for one in session.get_inputs()} == {
        **dict.fromkeys(("age (years)", "Größe, cm", "c0", "one"), "tensor(float)"),
        **dict.fromkeys(("label", "prepare/variable"), "tensor(string)"),
    }
    assert [one.name for one in session.get_outputs()] == ["logits", "embedding"]


def test_a_category_that_was_never_seen_counts_as_none_of_the_known(predictor: Predictor, rows: list[Row]) -> None:
    new, other = (predictor.predict([{**rows[0], "label": text}])[0] for text in ("in between", "elsewhere"))
    assert new.probabilities == other.probabilities


def test_there_is_one_answer_however_missing_is_written(predictor: Predictor, rows: list[Row]) -> None:
    filled = [predictor.predict([{**rows[0], "c0": value}])[0] for value in (None, "", float("nan"))]
    assert_same(filled[1:], filled[:1] * 2)


def test_far_away_gives_no_class_but_says_why(predictor: Predictor, rows: list[Row]) -> None:
    far = predictor.predict([{**rows[0], "c0": 1e30}])[0]
    assert (far.label, far.abstained, far.reason) == (None, True, "far from anything seen in training")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"C0": 1.0}, r"must be a known name\n  found: 'C0'\n  to do: did you mean 'c0'"),
        ({"c0": float("inf")}, "'c0' must be a finite number"),
        ({"c0": 1e39}, "'c0' must be a finite number"),
        ({"c0": "many"}, "'c0' must be a finite number"),
        ({"c0": True}, "'c0' must be a finite number"),
        ({"label": True}, "'label' must be a text"),
        ({"label": ["left"]}, "'label' must be a text"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    predictor: Predictor, rows: list[Row], change: dict[str, Any], told: str
) -> None:
    with pytest.raises(RejectedInput, match=told):
        predictor.predict([rows[0], {**rows[1], **change}])


def test_an_absent_column_is_named(predictor: Predictor, rows: list[Row]) -> None:
    short = {name: value for name, value in rows[0].items() if name != "Größe, cm"}
    with pytest.raises(RejectedInput, match="must name the column 'Größe, cm'"):
        predictor.predict([short])


def test_features_come_in_the_order_of_the_table(predictor: Predictor, rows: list[Row]) -> None:
    assert predictor.preparer.row_of(list(rows[0].values())) == rows[0]
    with pytest.raises(RejectedInput, match=r"features must hold 6 values.*\n  found: 7 values"):
        predictor.preparer.row_of([*rows[0].values(), 1.0])


def test_no_rows_are_rejected(predictor: Predictor) -> None:
    with pytest.raises(RejectedInput, match="at least one case"):
        predictor.predict([])


def test_predicting_loads_no_training_library(golden: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from medloop.bundle.predictor import Predictor
predictor = Predictor.load(Path({str(golden)!r}))
predictor.predict([dict.fromkeys(predictor.preparer.names)])
print(sorted({{"torch", "sklearn", "pandas", "mlflow", "scipy", "matplotlib", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
