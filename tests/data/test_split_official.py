"""Official parts are kept unless they leak; then the copies outside the test set leave, and are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medloop.case import case_id
from medloop.data import manifest
from medloop.data.edition import edition_of, locked_cases
from medloop.data.split import LEAK, OUT, TEST, TRAIN, VAL, split_cases
from medloop.errors import UserError
from medloop.recipe import SplitSection

Rows = Sequence[tuple[str, str | None, str | None]]


def cases_of(rows: Rows) -> pd.DataFrame:
    """Cases of a label, an official part and a patient."""
    names = [case_id("test", str(number)) for number in range(len(rows))]
    table = pd.DataFrame(rows, columns=["label", "given", "patient_id"], dtype=object)
    return manifest.complete_manifest(table.assign(case_id=names, source="test", file_sha256=names))


def official(counts: dict[str, int]) -> Rows:
    """So many cases in each part, of two classes in turn, each a patient of its own."""
    return [("ab"[n % 2], part, f"{part}{n}") for part, count in counts.items() for n in range(count)]


def split(
    cases: pd.DataFrame, *, locked: frozenset[str] = frozenset(), together: Any = (), **section: Any
) -> pd.DataFrame:
    splits = split_cases(cases, SplitSection(folds=2, **section), locked=locked, together=together)
    return splits.merge(cases[["case_id", "label", "given", "patient_id"]], on="case_id")


def test_three_parts_stay_as_they_were_given() -> None:
    splits = split(cases_of(official({"train": 20, "val": 6, "test": 8})))
    assert (splits["part"] == splits["given"]).all()
    assert (splits["why"] == "").all()


def test_of_two_parts_the_second_is_the_test_set() -> None:
    splits = split(cases_of(official({"train": 20, "val": 6})))
    assert splits.groupby("given")["part"].agg(set).to_dict() == {"train": {TRAIN}, "val": {TEST}}


def test_a_wanted_validation_share_comes_from_the_training_part() -> None:
    splits = split(cases_of(official({"train": 40, "test": 10})), val=0.2)
    assert (splits.loc[splits["given"] == "test", "part"] == TEST).all()
    assert set(splits.loc[splits["given"] == "train", "part"]) == {TRAIN, VAL}


def test_official_parts_are_passed_over_on_request() -> None:
    splits = split(cases_of(official({"train": 30, "test": 10})), official=False, test=0.25)
    assert Counter(splits["part"]) == {TRAIN: 30, TEST: 10}
    assert (splits["part"] != splits["given"]).any()


def test_training_copies_of_the_test_set_leave_and_are_counted() -> None:
    cases = cases_of([*official({"train": 20, "test": 8}), ("a", "train", "test0"), ("b", "train", "test1")])
    splits = split(cases)
    left = splits[splits["why"] == LEAK]
    assert sorted(left["patient_id"]) == ["test0", "test1"]
    assert len(left) == 2
    assert (left["part"] == OUT).all()
    assert (splits.loc[splits["given"] == "test", "part"] == TEST).all()


def test_copies_that_the_audit_found_leave_the_same_way() -> None:
    cases = cases_of(official({"train": 20, "val": 6, "test": 8}))
    first = {part: cases.loc[cases["given"] == part, "case_id"].tolist() for part in ("train", "val", "test")}
    pairs = [
        (first["train"][0], first["test"][0]),
        (first["train"][1], first["val"][0]),
        (first["val"][1], first["test"][1]),
    ]
    splits = split(cases, together=pairs).set_index("case_id")
    assert set(splits.index[splits["why"] == LEAK]) == {first["train"][0], first["train"][1], first["val"][1]}
    assert (splits.loc[first["test"], "part"] == TEST).all()


def test_cases_outside_the_official_parts_are_learned_from() -> None:
    splits = split(cases_of([*official({"train": 20, "test": 8}), ("a", None, "new"), ("b", None, "test0")]))
    parts = dict(zip(splits["patient_id"] + splits["given"].fillna("-"), splits["part"], strict=True))
    assert parts["new-"] == TRAIN
    assert parts["test0-"] == OUT


def test_a_study_keeps_together_whom_nobody_names() -> None:
    cases = cases_of([("ab"[n % 2], None, None) for n in range(40)])
    cases["group_id"] = [f"study{n % 20}" for n in range(40)]
    splits = split(cases).merge(cases[["case_id", "group_id"]], on="case_id")
    assert (splits.groupby("group_id")["part"].nunique() == 1).all()
    assert set(splits["part"]) == {TRAIN, TEST}


part = st.sampled_from(["train", "val", "test", None])
rows = st.lists(
    st.tuples(st.sampled_from("ab"), part, st.none() | st.integers(0, 30).map(str)), min_size=20, max_size=60
)


@settings(deadline=None, max_examples=60)
@given(rows=rows, data=st.data())
def test_whatever_the_parts_and_copies_no_patient_is_on_both_sides_and_no_test_case_is_invented(
    rows: Rows, data: st.DataObject
) -> None:
    cases = cases_of(rows)
    pair = st.tuples(*[st.sampled_from(cases["case_id"].tolist())] * 2)
    together = data.draw(st.lists(pair, max_size=5))
    try:
        splits = split(cases, together=together)
    except UserError:
        assume(False)
    used = splits[splits["part"] != OUT]
    assert (used.dropna(subset="patient_id").groupby("patient_id")["part"].nunique() <= 1).all()
    parts = used.set_index("case_id")["part"]
    assert all(parts[one] == parts[other] for one, other in together if one in parts and other in parts)
    if (cases["given"] == "test").any():
        tested = splits.loc[splits["given"] == "test", "part"]
        assert (tested == TEST).all()
        assert (splits.loc[splits["part"] == TEST, "given"] == "test").all()


@pytest.mark.parametrize("parts", [{"train": 20, "val": 6, "test": 8}, {"train": 20, "val": 6}])
def test_the_edition_holds_the_official_test_set_when_cases_are_added(parts: dict[str, int]) -> None:
    section = SplitSection(folds=2)
    cases = cases_of(official(parts))
    splits = split(cases)
    edition = edition_of(cases, splits, section, smoke=False)
    late = [("a", "test", "late1"), ("b", "val", "late2"), ("a", "train", "test0"), ("b", None, "late3")]
    more = cases_of([*official(parts), *late])
    locked = locked_cases(edition, more, section, smoke=False)
    again = split(more, locked=locked)
    assert set(again.loc[again["part"] == TEST, "case_id"]) == set(edition.cases) == set(locked)


def test_a_changed_test_file_is_refused() -> None:
    section = SplitSection(folds=2)
    cases = cases_of(official({"train": 20, "test": 8}))
    edition = edition_of(cases, split(cases), section, smoke=False)
    cases.loc[cases["given"] == "test", "file_sha256"] = np.array(["0" * 64] * 8)
    with pytest.raises(UserError, match="have changed or are missing"):
        locked_cases(edition, cases, section, smoke=False)
