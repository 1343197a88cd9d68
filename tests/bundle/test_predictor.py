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


def test_predictions_match_the_recorded_ones(predictor: Predictor) -> None:
    for now, known in zip(answers(predictor), KNOWN, strict=True):
        assert now["probabilities"] == pytest.approx(known["probabilities"], abs=1e-6)
        assert {**now, "probabilities": None} == {**known, "probabilities": None}


def test_the_recorded_predictions_cover_every_kind(rows: list[Row]) -> None:
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


def test_many_threads_get_their_own_predictions(predictor: Predictor, rows: list[Row]) -> None:
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


def test_ids_are_unique_and_in_the_order_of_the_predictions(predictor: Predictor, rows: list[Row]) -> None:
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


def test_the_prediction_does_not_depend_on_how_missing_is_written(predictor: Predictor, rows: list[Row]) -> None:
    filled = [predictor.predict([{**rows[0], "c0": value}])[0] for value in (None, "", float("nan"))]
    assert_same(filled[1:], filled[:1] * 2)


def test_a_distant_case_is_an_abstention_with_a_reason(predictor: Predictor, rows: list[Row]) -> None:
    far = predictor.predict([{**rows[0], "c0": 1e30}])[0]
    assert (far.label, far.abstained, far.reason) == (None, True, "far from anything seen in training")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"C0": 1.0}, "Did you mean 'c0'"),
        ({"c0": float("inf")}, "not a finite number"),
        ({"c0": 1e39}, "not a finite number"),
        ({"c0": "many"}, "not a finite number"),
        ({"c0": True}, "not a finite number"),
        ({"label": True}, r"'label' is .*, not a text"),
        ({"label": ["left"]}, r"'label' is .*, not a text"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    predictor: Predictor, rows: list[Row], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RejectedInput, match=message):
        predictor.predict([rows[0], {**rows[1], **change}])


def test_an_absent_column_is_named(predictor: Predictor, rows: list[Row]) -> None:
    short = {name: value for name, value in rows[0].items() if name != "Größe, cm"}
    with pytest.raises(RejectedInput, match="no column 'Größe, cm'"):
        predictor.predict([short])


def test_features_come_in_the_order_of_the_table(predictor: Predictor, rows: list[Row]) -> None:
    assert predictor.preparer.row_of(list(rows[0].values())) == rows[0]
    with pytest.raises(RejectedInput, match="`features` has 7 values, and the model needs 6"):
        predictor.preparer.row_of([*rows[0].values(), 1.0])


def test_no_rows_are_rejected(predictor: Predictor) -> None:
    with pytest.raises(RejectedInput, match="no cases"):
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
