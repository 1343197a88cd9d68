"""The interval of an area never falls as the area grows, and allows for how alike the cases of a patient are."""

from __future__ import annotations

from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.metrics.intervals.area import COVERED, Sizes, area_bounds, auc_interval, obuchowski_variance
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.delong import place
from medloop.metrics.view import FloatArray, IntArray

Z = 1.959963984540054


def with_discordant(positives: int, negatives: int, pairs: int) -> tuple[IntArray, FloatArray]:
    """Scores in perfect order but for so many pairs, each of another positive and negative case."""
    y = np.repeat([1, 0], [positives, negatives])
    score = np.where(y == 1, 10.0, 0.0) + np.linspace(0, 0.5, y.size)
    swapped = np.arange(pairs)
    score[swapped], score[positives + swapped] = 5.0 - swapped, 5.5 - swapped
    return y, score


def two_columns(score: FloatArray) -> FloatArray:
    share = (score - score.min()) / (score.max() - score.min())
    return np.column_stack([1 - share, share])


def test_perfect_separation_is_surer_than_two_discordant_pairs() -> None:
    flawless, flawed = (
        interval_for("roc_auc", y, two_columns(score))
        for y, score in (with_discordant(20, 60, 0), with_discordant(20, 60, 2))
    )
    assert (flawless.value, flawed.value) == (1.0, pytest.approx(1 - 3 / 1200))
    assert flawless.lower > flawed.lower > 0.88


def test_perfect_patients_are_surer_than_patients_with_two_discordant_slices() -> None:
    patients = np.arange(240) // 3
    flawless, flawed = (
        interval_for("roc_auc", y, two_columns(score), Resampling(groups=patients))
        for y, score in (with_discordant(60, 180, 0), with_discordant(60, 180, 2))
    )
    assert flawless.lower >= flawed.lower > 0.85
    assert flawless.lower == interval_for("roc_auc", *_perfect(20, 60)).lower


def _perfect(positives: int, negatives: int) -> tuple[IntArray, FloatArray]:
    y, score = with_discordant(positives, negatives, 0)
    return y, two_columns(score)


SIZES = st.builds(Sizes.single, st.integers(1, 2000), st.integers(1, 2000))
CLUSTERED = st.builds(
    lambda m, n, slices, effect: Sizes(
        positives=m * slices, negatives=n * slices, min_positives=m, min_negatives=n, effect=effect
    ),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(2, 9),
    st.sampled_from([1.0001, 2.0, 7.5, np.inf]),
)


@given(st.one_of(SIZES, CLUSTERED), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_both_bounds_never_fall_as_the_area_grows_and_hold_it(sizes: Sizes, level: float) -> None:
    areas = np.linspace(0, 1, 201)
    lower, upper = area_bounds(areas, sizes, level=level)
    assert (np.diff(lower) >= 0).all()
    assert (np.diff(upper) >= 0).all()
    assert (lower >= 0).all()
    assert (upper <= 1).all()
    assert ((lower <= areas) & (areas <= upper)).all()
    assert lower[-1] < 1
    assert upper[0] > 0


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.5, 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_more_cases_of_either_class_give_no_wider_interval(positives: int, negatives: int, area: float) -> None:
    here, more, other = (
        area_bounds(np.array([area]), Sizes.single(m, n))
        for m, n in ((positives, negatives), (positives + 1, negatives), (positives, negatives + 1))
    )
    width = here[1] - here[0]
    assert (more[1] - more[0] <= width + 1e-9).all()
    assert (other[1] - other[0] <= width + 1e-9).all()


def test_the_bound_is_where_the_area_found_is_two_standard_errors_away() -> None:
    y, score = with_discordant(12, 30, 4)
    found = auc_interval(y, score)
    for bound in (found.lower, found.upper):
        pairs, both = 12 * 30, (bound * bound, 2 * bound - bound * bound)
        one, other = bound / (2 - bound), 2 * bound**2 / (1 + bound)
        variance = (bound - both[0] + 29 * (other - both[0]) + 11 * (one - both[0])) / pairs
        assert abs(found.value - bound) == pytest.approx(Z * sqrt(variance), rel=1e-6)


def test_the_rarer_class_is_the_uneven_one_whichever_it_is() -> None:
    y, score = with_discordant(12, 30, 4)
    there, back = auc_interval(y, score), auc_interval(1 - y, -score)
    assert (there.value, there.lower, there.upper) == pytest.approx((back.value, back.lower, back.upper))


def slow_obuchowski(y: IntArray, score: FloatArray, patients: IntArray) -> float:
    """The variance as Obuchowski (1997) writes it down, patient by patient and pair by pair."""
    high, low = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    wins = {(i, j): float(score[i] > score[j]) + 0.5 * float(score[i] == score[j]) for i in high for j in low}
    area = sum(wins.values()) / len(wins)
    ten = {i: sum(wins[i, j] for j in low) / low.size for i in high}
    one = {j: sum(wins[i, j] for i in high) / high.size for j in low}
    names = sorted(set(patients.tolist()))
    of_high = [sum(ten[i] - area for i in high if patients[i] == name) for name in names]
    of_low = [sum(one[j] - area for j in low if patients[j] == name) for name in names]
    i10, i01, i = len(set(patients[high])), len(set(patients[low])), len(names)
    s10 = i10 / ((i10 - 1) * high.size) * sum(part**2 for part in of_high)
    s01 = i01 / ((i01 - 1) * low.size) * sum(part**2 for part in of_low)
    s11 = i / (i - 1) * sum(a * b for a, b in zip(of_high, of_low, strict=True))
    return s10 / high.size + s01 / low.size + 2 * s11 / (high.size * low.size)


@pytest.mark.parametrize("seed", range(20))
def test_the_variance_of_patients_is_that_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients = np.sort(rng.integers(0, 15, 40))
    y = np.r_[1, 1, 0, 0, rng.integers(0, 2, 36)]
    # Some patients have cases of both classes, and scores are tied.
    score = np.round(y + rng.normal(size=15)[patients] + rng.normal(size=40), 1)
    numbers = np.unique(patients, return_inverse=True)[1].astype(np.int64)
    fast = obuchowski_variance(place(y == 1, score), numbers[y == 1], numbers[y == 0])
    assert fast == pytest.approx(slow_obuchowski(y, score, patients), rel=1e-9)


def test_the_variance_of_six_cases_of_four_patients_by_hand() -> None:
    """Placements 1, 2/3, 1 of patients a, a, b and 1, 1, 2/3 of c, c, d; the area is 8/9."""
    y, score = np.array([1, 1, 1, 0, 0, 0]), np.array([5.0, 2.0, 4.0, 0.0, 1.0, 3.0])
    placed = place(y == 1, score)
    assert placed.auc == pytest.approx(8 / 9)
    # a: 1/9 - 2/9 = -1/9; b: 1/9; twice (1/81 + 1/81) over 9; c: 2/9; d: -2/9; twice (4/81 + 4/81) over 9.
    expected = 2 * (2 / 81) / 9 + 2 * (8 / 81) / 9
    assert obuchowski_variance(placed, np.array([0, 0, 1]), np.array([2, 2, 3])) == pytest.approx(expected)


def test_where_each_patient_has_one_case_the_variance_is_delongs_and_the_interval_that_of_single_cases() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([1, 0], [15, 40])
    score = np.round(y + rng.normal(size=55), 1)
    placed = place(y == 1, score)
    assert obuchowski_variance(placed, np.arange(15), np.arange(15, 55)) == pytest.approx(placed.variance, rel=1e-9)
    assert auc_interval(y, score, groups=np.arange(55)) == auc_interval(y, score)


def test_alike_cases_of_a_patient_count_once_and_unlike_ones_each() -> None:
    rng = np.random.default_rng(2)
    y, patients = np.repeat([1, 0], [90, 180]), np.arange(270) // 3
    own, common = rng.normal(size=270), rng.normal(size=90)[patients]
    alike, unlike = (auc_interval(y, 1.5 * y + noise, groups=patients) for noise in (common, own))
    once = auc_interval(y[::3], (1.5 * y + common)[::3])
    assert (alike.lower, alike.upper) == pytest.approx((once.lower, once.upper))
    single = auc_interval(y, 1.5 * y + own)
    assert single.lower - unlike.lower < (single.lower - alike.lower) / 2


@pytest.mark.parametrize(
    ("patients", "counted"), [([0] * 6 + [1] * 6, 1), ([*range(5), 0, *range(6, 12)], 4.5)], ids=["one each", "uneven"]
)
def test_a_perfect_area_of_few_patients_counts_each_once(patients: list[int], counted: float) -> None:
    y, score = with_discordant(6, 6, 0)
    found = auc_interval(y, score, groups=patients)
    other = 1 if counted == 1 else 6
    known = area_bounds(np.ones(1), Sizes.single(counted, other))
    assert found.lower == pytest.approx(float(known[0][0]))
    assert found.upper == 1


def test_a_constant_score_of_patients_has_the_interval_of_so_many_patients() -> None:
    y = np.repeat([1, 0], [12, 12])
    found = auc_interval(y, np.full(24, 0.3), groups=np.arange(24) // 2)
    known = area_bounds(np.array([0.5]), Sizes.single(6, 6))
    assert (found.lower, found.upper) == pytest.approx((float(known[0][0]), float(known[1][0])))


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_has_no_area(y: list[int]) -> None:
    found = auc_interval(np.array(y, dtype=int), np.arange(float(len(y))), groups=list(range(len(y))))
    assert all(isnan(value) for value in (found.value, found.lower, found.upper))
    assert found.note == "undefined: only one class"


def test_an_interval_with_low_simulated_coverage_has_a_note() -> None:
    few, many = (auc_interval(*with_discordant(size, 90, 2)) for size in (12, 60))
    assert few.note == f"{COVERED} 91 to 95% of samples with so few cases of a class"
    assert many.note == ""
    y, score = with_discordant(60, 90, 2)
    equal, unequal = np.arange(150) // 3, np.repeat(np.arange(50), [8, 2, 1, 1, 3] * 10)
    even, uneven = (auc_interval(y, score, groups=groups) for groups in (equal, unequal))
    assert even.note == ""
    assert uneven.note.endswith("92 to 95% of samples with groups so unequal")
