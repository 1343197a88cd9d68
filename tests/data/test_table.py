"""From columns to cases: inputs, label, patient, and keys that no order of rows changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.case import Value
from medloop.data import manifest
from medloop.data.table import Sheet, manifest_of
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.recipe import DataSection


def cases_of(columns: dict[str, Sequence[Value]], **data: Any) -> pd.DataFrame:
    section = DataSection(**{"label": "y", **data})
    return manifest_of(Sheet({name: list(cells) for name, cells in columns.items()}), section, source="test")


SMALL: dict[str, Sequence[Value]] = {"a": [1.0, 2.0, 3.0, 4.0], "b": ["u", "v", "u", None], "y": ["n", "p", "n", "p"]}


def test_inputs_are_all_columns_but_label_patient_key_and_dropped() -> None:
    more = {**SMALL, "who": ["x", "x", "y", "z"], "key": ["1", "2", "3", "4"], "c": [0.0] * 4}
    cases = cases_of(more, patient="who", key="key", drop=["c"])
    assert manifest.value_columns(cases) == ["a", "b"]
    assert sorted(cases["patient_id"]) == ["x", "x", "y", "z"]


def test_inputs_can_be_named_and_keep_the_order_of_the_table() -> None:
    assert manifest.value_columns(cases_of(SMALL, features=["b", "a", "y"])) == ["a", "b"]


@pytest.mark.parametrize("key", ["label", "patient", "key"])
def test_an_unknown_column_is_refused_with_the_nearest(key: str) -> None:
    columns = {**SMALL, "patient_id": ["x"] * 4}
    with pytest.raises(UnknownName) as caught:
        cases_of(columns, **{key: "patient_idd"})
    assert caught.value.near == "patient_id"


@pytest.mark.parametrize("key", ["features", "drop", "categories"])
def test_an_unknown_column_in_a_list_is_refused(key: str) -> None:
    with pytest.raises(UnknownName, match=r"'z' in params.yaml, section data"):
        cases_of(SMALL, **{key: ["z"]})


def test_a_table_without_inputs_is_refused() -> None:
    with pytest.raises(UserError, match="no input columns left"):
        cases_of(SMALL, drop=["a", "b"])


def test_free_text_is_refused_and_not_quoted() -> None:
    notes = [f"Mrs Smith, {number} years" for number in range(30)]
    columns = {"a": [1.0] * 30, "notes": notes, "y": ["n", "p"] * 15}
    with pytest.raises(UserError, match="Column 'notes' has 30 different texts") as caught:
        cases_of(columns)
    assert "Smith" not in str(caught.value)
    assert manifest.value_columns(cases_of(columns, drop=["notes"])) == ["a"]
    assert manifest.value_columns(cases_of(columns, categories=["notes"])) == ["a", "notes"]


def test_a_row_without_label_is_set_aside() -> None:
    cases = cases_of({**SMALL, "y": ["n", None, "n", "p"]})
    assert cases["quarantined"].dropna().tolist() == ["no label"]
    assert len(manifest.usable(cases)) == 3


def test_labels_are_renamed_and_held_against_the_classes() -> None:
    cases = cases_of(SMALL, rename={"n": "benign", "p": "malignant"}, classes=["malignant", "benign"])
    assert sorted(set(cases["label"])) == ["benign", "malignant"]


def test_a_label_that_is_no_class_is_refused_with_its_row() -> None:
    with pytest.raises(UnknownName) as caught:
        cases_of({**SMALL, "y": ["n", "p", "nn", "p"]}, classes=["n", "p"])
    assert "'nn' in column 'y', row 4" in caught.value.problem


@pytest.mark.parametrize("labels", [["n"] * 4, [None] * 4, ["n", None, None, "n"]])
def test_one_class_is_not_enough(labels: list[Value]) -> None:
    with pytest.raises(RejectedInput, match="fewer than two classes"):
        cases_of({**SMALL, "y": labels})


def test_labels_as_numbers_are_labels_as_texts() -> None:
    numbers = {**SMALL, "y": [0, 1, 0, 1]}
    texts = {**SMALL, "y": ["0", "1", "0", "1"]}
    pd.testing.assert_frame_equal(cases_of(numbers), cases_of(texts))


CELLS = st.sampled_from([1.0, 2.0, None])
ROWS = st.lists(
    st.tuples(CELLS, st.sampled_from(["u", "v", None]), st.sampled_from(["n", "p"]), st.sampled_from(["x", "y", None])),
    min_size=2,
    max_size=12,
).filter(lambda rows: len({row[2] for row in rows}) == 2)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, data=st.data())
def test_the_manifest_depends_on_the_order_of_neither_rows_nor_columns(
    rows: list[tuple[Value, ...]], data: st.DataObject
) -> None:
    names = ["a", "b", "y", "who"]
    columns: dict[str, Sequence[Value]] = dict(zip(names, zip(*rows, strict=True), strict=True))
    shuffled = data.draw(st.permutations(rows))
    order = data.draw(st.permutations(names))
    again = {name: [row[names.index(name)] for row in shuffled] for name in order}
    first, second = cases_of(columns, patient="who"), cases_of(again, patient="who")
    pd.testing.assert_frame_equal(first, second[first.columns], check_dtype=False)
    assert manifest.fingerprint(first) == manifest.fingerprint(second)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS)
def test_every_case_has_an_id_of_its_own_that_its_label_does_not_change(rows: list[tuple[Value, ...]]) -> None:
    columns: dict[str, Sequence[Value]] = dict(
        zip(["a", "b", "y"], zip(*(row[:3] for row in rows), strict=True), strict=True)
    )
    cases = cases_of(columns)
    assert cases["case_id"].is_unique
    swapped = cases_of({**columns, "y": [{"n": "p", "p": "n"}[str(label)] for label in columns["y"]]})
    assert set(swapped["case_id"]) == set(cases["case_id"])


def test_a_case_with_a_key_keeps_its_id_when_its_values_change() -> None:
    columns = {**SMALL, "key": ["1", "2", "3", "4"]}
    changed = {**columns, "a": [9.0, 2.0, 3.0, 4.0]}
    first, second = cases_of(columns, key="key"), cases_of(changed, key="key")
    assert first["case_id"].tolist() == second["case_id"].tolist()
    assert manifest.fingerprint(first) != manifest.fingerprint(second)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [(["1", None, "3", "4"], "is empty in row 3"), (["1", "2", "1", "4"], "the same value in rows 2 and 4")],
)
def test_a_key_must_be_there_and_its_own(keys: list[Value], reason: str) -> None:
    with pytest.raises(RejectedInput, match=r"Column 'key' \(`data\.key`\)") as caught:
        cases_of({**SMALL, "key": keys}, key="key")
    assert reason in caught.value.problem
