"""A row becomes the model's typed inputs, or a named error."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.case import Row, Value
from medloop.errors import RejectedInput, UserError
from medloop.prepare.csv_cells import MAX_NUMBER
from medloop.prepare.table import MISSING_CATEGORY, OUTPUT_NAMES, Column, TablePreparer

PREPARER = TablePreparer((Column("age", "number"), Column("side", "category")))


def fit(**columns: list[Value]) -> TablePreparer:
    return TablePreparer.fit(columns, categories=(), max_categories=3)


def one(**row: Any) -> dict[str, Any]:
    return {name: values[0, 0] for name, values in PREPARER.prepare([row]).items()}


def test_numbers_stay_numbers_and_texts_are_categories() -> None:
    assert fit(age=[1.0, None, 2.0], side=["l", None, "r"], empty=[None, None]).columns == (
        Column("age", "number"),
        Column("side", "category"),
        Column("empty", "number"),
    )


def test_the_recipe_can_make_numbers_categories() -> None:
    preparer = TablePreparer.fit({"site": [1.0, 2.0]}, categories=["site"], max_categories=3)
    assert preparer.columns == (Column("site", "category"),)


def test_too_many_categories_are_refused_and_not_listed() -> None:
    with pytest.raises(UserError, match="Column 'name' has 4 categories") as caught:
        fit(name=["Ann", "Bob", "Cid", "Dan"])
    assert "Ann" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(OUTPUT_NAMES))
def test_names_that_a_bundle_needs_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}'"):
        fit(**{name: [1.0]})


def test_inputs_are_one_typed_array_a_column_and_a_row_a_case() -> None:
    inputs = PREPARER.prepare([{"age": 1, "side": "l"}, {"side": None, "age": None}])
    assert {name: (values.dtype, values.shape) for name, values in inputs.items()} == {
        "age": (np.dtype("float32"), (2, 1)),
        "side": (np.dtype("object"), (2, 1)),
    }
    assert math.isnan(inputs["age"][1, 0])
    assert inputs["side"][1, 0] == MISSING_CATEGORY


@pytest.mark.parametrize("value", [None, "", math.nan])
def test_what_is_missing_is_known_to_be(value: Value) -> None:
    inputs = one(age=value, side=value)
    assert math.isnan(inputs["age"])
    assert inputs["side"] == MISSING_CATEGORY


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), ("3.5", 3.5), (-0.25, -0.25), (MAX_NUMBER, MAX_NUMBER)])
def test_numbers_are_taken_as_numbers_or_as_text(value: Value, number: float) -> None:
    assert one(age=value, side="l")["age"] == np.float32(number)


@pytest.mark.parametrize(
    "value",
    [
        math.inf,
        -math.inf,
        "inf",
        "nan",
        "NaN",
        "1e400",
        1e39,
        pytest.param(10**5000, id="huge"),
        True,
        False,
        "x",
        "1,5",
        "1_0",
        [1],
        {},
    ],
)
def test_what_is_no_finite_number_is_refused_by_the_name_of_its_column(value: Any) -> None:
    with pytest.raises(RejectedInput, match="not a finite number") as caught:
        one(age=value, side="l")
    assert caught.value.problem.startswith("'age' is")
    assert len(caught.value.problem) < 80


@pytest.mark.parametrize("value", [True, ["l"], {"a": 1}, math.inf, pytest.param(10**5000, id="huge")])
def test_what_is_no_text_is_refused_by_the_name_of_its_column(value: Any) -> None:
    with pytest.raises(RejectedInput, match=r"'side' is .*, not a text"):
        one(age=1, side=value)


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), (0.5, "0.5"), (123456789, "123456789"), (1e16, "10000000000000000")]
)
def test_a_number_that_names_a_category_is_written_in_full(value: Value, text: str) -> None:
    assert one(age=1, side=value)["side"] == text


@given(value=st.integers(-(10**15), 10**15))
def test_different_codes_stay_different_categories(value: int) -> None:
    assert one(age=1, side=value)["side"] == str(value) == one(age=1, side=float(value))["side"]


def test_a_column_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(RejectedInput, match="no column 'side'"):
        PREPARER.prepare([{"age": 1}])


def test_a_column_that_is_unknown_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RejectedInput, match=r"(?i)Did you mean 'side'"):
        PREPARER.prepare([{"age": 1, "side": "l", "sied": "r"}])


def test_values_in_order_get_their_names() -> None:
    assert PREPARER.row_of([4, "r"]) == {"age": 4, "side": "r"}


@pytest.mark.parametrize("features", [[], [1], [1, "l", 2]])
def test_too_few_or_too_many_values_are_refused(features: list[Value]) -> None:
    with pytest.raises(RejectedInput, match="needs 2") as caught:
        PREPARER.row_of(features)
    assert f"{len(features)} values" in caught.value.problem


def test_a_preparer_survives_being_written_as_json() -> None:
    assert TablePreparer.from_json(json.loads(json.dumps(PREPARER.to_json()))) == PREPARER


VALUES = st.none() | st.text(max_size=5) | st.floats() | st.integers() | st.booleans() | st.lists(st.integers())


@given(row=st.dictionaries(st.sampled_from(["age", "side", "other"]), VALUES))
def test_any_row_is_prepared_or_refused_by_name(row: Row) -> None:
    try:
        inputs = PREPARER.prepare([row])
    except RejectedInput:
        return
    assert set(row) == {"age", "side"}
    assert not np.isinf(inputs["age"]).any()
    assert isinstance(inputs["side"][0, 0], str)
