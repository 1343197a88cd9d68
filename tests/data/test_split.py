"""Splitting: no group on both sides, every class in its share, and the same whatever the order of the files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medloop.case import case_id
from medloop.data import manifest
from medloop.data.split import CALIB, NO_FOLD, OUT, TEST, TRAIN, VAL, assign, fold_numbers, split_cases
from medloop.errors import UserError
from medloop.recipe import SplitSection

QUICK = settings(deadline=None, max_examples=20)


def cases_of(labels: list[str], patients: list[str | None] | None = None) -> pd.DataFrame:
    names = [case_id("test", str(number)) for number in range(len(labels))]
    columns = {"case_id": names, "label": labels, "patient_id": patients or [None] * len(labels)}
    return manifest.complete_manifest(pd.DataFrame({**columns, "source": "test", "file_sha256": names}))


def split(cases: pd.DataFrame, *, folds: int = 2, **options: Any) -> pd.DataFrame:
    keys = ("together", "locked", "smoke")
    section = SplitSection(folds=folds, **{name: value for name, value in options.items() if name not in keys})
    return split_cases(cases, section, **{name: value for name, value in options.items() if name in keys})


def part_of(splits: pd.DataFrame) -> dict[str, str]:
    return dict(zip(splits["case_id"], splits["part"], strict=True))


def held_out(splits: pd.DataFrame) -> frozenset[str]:
    return frozenset(splits.loc[splits["part"] == TEST, "case_id"])


@st.composite
def grouped(draw: st.DrawFn) -> pd.DataFrame:
    """Cases of two or three classes, of which some share a patient and some name none."""
    classes = draw(st.integers(2, 3))
    count = draw(st.integers(12, 40))
    labels = [f"c{number % classes}" for number in range(count)]
    owner = st.none() | st.integers(0, count).map(lambda number: f"p{number}")
    return cases_of(labels, [draw(owner) for _ in range(count)])


def try_split(cases: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """The split, where the groups allow one."""
    try:
        return split(cases, **options)
    except UserError:
        assume(False)
        raise


@QUICK
@given(cases=grouped(), data=st.data())
def test_no_group_is_on_both_sides(cases: pd.DataFrame, data: st.DataObject) -> None:
    ties = data.draw(st.lists(st.lists(st.sampled_from(cases["case_id"].tolist()), min_size=2, max_size=3), max_size=4))
    splits = try_split(cases, val=0.1, calib=0.1, together=ties)
    splits = splits.merge(cases[["case_id", "patient_id"]], on="case_id")
    for held in ("part", "fold"):
        assert (splits.groupby("patient_id")[held].nunique() == 1).all()
        place = dict(zip(splits["case_id"], splits[held], strict=True))
        assert all(len({place[name] for name in tie}) == 1 for tie in ties)


@QUICK
@given(cases=grouped())
def test_every_usable_case_has_one_part_and_train_alone_has_folds(cases: pd.DataFrame) -> None:
    cases.loc[[0, 5], "quarantined"] = "unreadable"
    splits = try_split(cases, val=0.1, calib=0.1)
    assert sorted(splits["case_id"]) == sorted(manifest.usable(cases)["case_id"])
    assert set(splits["part"]) <= {TRAIN, VAL, CALIB, TEST}
    assert ((splits["fold"] != NO_FOLD) == (splits["part"] == TRAIN)).all()
    assert set(splits.loc[splits["part"] == TRAIN, "fold"]) == {0, 1}


@QUICK
@given(
    counts=st.lists(st.integers(12, 80), min_size=2, max_size=4),
    test=st.floats(0.1, 0.4),
    val=st.floats(0, 0.2),
    seed=st.integers(0, 10**6),
)
def test_each_part_and_fold_gets_its_share_of_each_class(counts: list[int], test: float, val: float, seed: int) -> None:
    labels = [f"c{number}" for number, count in enumerate(counts) for _ in range(count)]
    cases = cases_of(labels)
    splits = split(cases, test=test, val=val, folds=3, seed=seed).merge(cases[["case_id", "label"]], on="case_id")
    shares = {TEST: test, VAL: val, TRAIN: 1 - test - val}
    for label, of_class in splits.groupby("label"):
        found = Counter(of_class["part"])
        for part, share in shares.items():
            assert abs(found[part] - share * len(of_class)) <= 1.5, (label, part)
        folds = Counter(of_class.loc[of_class["part"] == TRAIN, "fold"])
        assert max(folds.values()) - min(folds.values()) <= 1
        assert len(folds) == 3


@QUICK
@given(cases=grouped())
def test_with_groups_a_part_misses_its_share_by_no_more_than_the_largest_group(cases: pd.DataFrame) -> None:
    splits = try_split(cases, test=0.3)
    largest = splits["group"].value_counts().max()
    assert abs((splits["part"] == TEST).sum() - 0.3 * len(splits)) <= largest + 2


@pytest.mark.parametrize("seed", range(10))
def test_every_fold_and_the_test_set_hold_every_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, 80, 250)
    ill = rng.random(80) < 0.4
    cases = cases_of(np.where(ill[owners], "p", "n").tolist(), [f"p{owner}" for owner in owners])
    splits = split(cases, folds=5, seed=seed).merge(cases[["case_id", "label"]], on="case_id")
    assert (splits.groupby(["part", "fold"])["label"].nunique() == 2).all()
    assert splits["fold"].nunique() == 6


@QUICK
@given(cases=grouped(), seed=st.integers(0, 100), order=st.randoms(use_true_random=False))
def test_the_split_depends_on_the_order_of_neither_rows_nor_patients(
    cases: pd.DataFrame, seed: int, order: Any
) -> None:
    rows = list(range(len(cases)))
    order.shuffle(rows)
    first = try_split(cases, seed=seed, val=0.1)
    second = try_split(cases.iloc[rows].reset_index(drop=True), seed=seed, val=0.1)
    columns = ["case_id", "part", "fold", "group"]
    pd.testing.assert_frame_equal(
        first[columns], second[columns].sort_values("case_id", ignore_index=True), check_dtype=False
    )


@QUICK
@given(cases=grouped(), names=st.permutations(["c0", "c1", "c2"]))
def test_the_split_depends_on_no_name_of_a_class_or_patient(cases: pd.DataFrame, names: list[str]) -> None:
    swapped = cases.assign(
        label=cases["label"].map(dict(zip(["c0", "c1", "c2"], names, strict=True))),
        patient_id=cases["patient_id"].map(lambda name: None if pd.isna(name) else f"new-{name[::-1]}"),
    )
    pd.testing.assert_frame_equal(try_split(cases), try_split(swapped))


def test_another_seed_is_another_split() -> None:
    cases = cases_of(["n", "p"] * 50)
    assert held_out(split(cases, seed=0)) == held_out(split(cases, seed=0))
    assert held_out(split(cases, seed=0)) != held_out(split(cases, seed=1))


def test_the_test_set_is_the_same_whatever_the_folds_and_what_else_is_held_out() -> None:
    cases = cases_of(["n", "p"] * 50)
    expected = held_out(split(cases))
    for options in ({"folds": 7}, {"val": 0.2}, {"calib": 0.1, "val": 0.1}):
        assert held_out(split(cases, **options)) == expected


@QUICK
@given(cases=grouped(), val=st.sampled_from([0.0, 0.2]), calib=st.sampled_from([0.0, 0.1]))
def test_splitting_again_around_the_locked_cases_changes_nothing(cases: pd.DataFrame, val: float, calib: float) -> None:
    first = try_split(cases, val=val, calib=calib)
    pd.testing.assert_frame_equal(split(cases, val=val, calib=calib, locked=held_out(first)), first)


@QUICK
@given(cases=grouped(), data=st.data())
def test_late_cases_never_enter_the_locked_test_set(cases: pd.DataFrame, data: st.DataObject) -> None:
    held_back = data.draw(st.sets(st.sampled_from(cases["case_id"].tolist()), min_size=1, max_size=8))
    early = cases[~cases["case_id"].isin(held_back)].reset_index(drop=True)
    assume(early["label"].nunique() == cases["label"].nunique())
    locked = held_out(try_split(early))
    splits = try_split(cases, locked=locked)
    assert held_out(splits) == locked
    owners = cases.set_index("case_id")["patient_id"]
    of_edition = set(owners[list(locked)].dropna())
    for name, part in part_of(splits).items():
        if name not in locked:
            assert part == (OUT if owners[name] in of_edition else TRAIN)


def test_a_late_case_of_a_patient_of_the_edition_is_left_out_of_everything() -> None:
    labels = ["n", "p"] * 20
    patients: list[str | None] = [f"p{number // 2}" for number in range(40)]
    early = cases_of(labels, patients)
    locked = held_out(split(early))
    known = str(early.set_index("case_id").loc[min(locked), "patient_id"])
    late = cases_of([*labels, "n", "p"], [*patients, known, "somebody new"])
    parts = part_of(split(late, locked=locked))
    assert parts[case_id("test", "40")] == OUT
    assert parts[case_id("test", "41")] == TRAIN


def test_a_late_copy_ties_its_patient_to_the_edition() -> None:
    early = cases_of(["n", "p"] * 20, [f"p{number // 2}" for number in range(40)])
    locked = held_out(split(early))
    outside = early.loc[~early["case_id"].isin(locked)].iloc[0]
    copy = [(min(locked), outside["case_id"])]
    parts = part_of(split(early, locked=locked, together=copy))
    mates = early.loc[early["patient_id"] == outside["patient_id"], "case_id"]
    assert {parts[name] for name in mates} == {OUT}
    assert {name for name, part in parts.items() if part == TEST} == locked


def test_a_smoke_run_takes_a_fifth_of_each_class() -> None:
    cases = cases_of(["n"] * 150 + ["p"] * 50)
    splits = split(cases, smoke=True).merge(cases[["case_id", "label"]], on="case_id")
    used = splits[splits["part"] != OUT]
    assert used["label"].value_counts().to_dict() == {"n": 30, "p": 10}
    assert (used["part"] == TEST).sum() == 8


@pytest.mark.parametrize(("rare", "folds"), [(1, 2), (5, 10), (9, 10)])
def test_too_few_groups_of_a_class_are_refused_with_numbers(rare: int, folds: int) -> None:
    with pytest.raises(UserError, match=f"{folds} folds need at least {folds}") as caught:
        split(cases_of(["n"] * 100 + ["p"] * rare), folds=folds)
    assert "The rarest class has" in caught.value.problem
    assert "split.folds" in caught.value.hint


@pytest.mark.parametrize(("count", "test"), [(2, 0.2), (30, 0.01)])
def test_a_class_without_a_test_case_is_refused_with_numbers(count: int, test: float) -> None:
    with pytest.raises(UserError, match="has none in the test set") as caught:
        split(cases_of(["n"] * 200 + ["p"] * count), test=test)
    assert f"A class with {count} cases" in caught.value.problem


def test_one_patient_with_all_cases_of_a_class_is_refused() -> None:
    with pytest.raises(UserError, match="need at least 2"):
        split(cases_of(["n", "p"] * 20, [None, "the same"] * 20))


def test_another_repeat_has_other_folds_of_equal_size() -> None:
    groups = [f"g{number}" for number in range(60)]
    labels = ["n", "p", "p"] * 20
    first, second = (fold_numbers(groups, labels, folds=5, seed=seed) for seed in (0, 1))
    assert (first != second).any()
    for folds in (first, second):
        assert np.bincount(folds).tolist() == [12] * 5
        assert np.bincount(folds[np.array(labels) == "n"]).tolist() == [4] * 5


def test_repeats_keep_groups_together() -> None:
    groups = [f"g{number // 3}" for number in range(60)]
    folds = fold_numbers(groups, ["n", "p", "p"] * 20, folds=4, seed=3)
    assert all(len(set(folds[number : number + 3])) == 1 for number in range(0, 60, 3))


def test_nothing_to_assign_is_no_error() -> None:
    assert assign({}, {TRAIN: 1.0}, seed=0, salt="x") == {}
