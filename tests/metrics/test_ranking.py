"""Areas and operating points against scikit-learn, against brute force and under transformations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from medloop.metrics import METRICS
from medloop.metrics.view import FloatArray, IntArray

POINTS = [name for name in METRICS if "_at_" in name]


def two(share: FloatArray) -> FloatArray:
    return np.column_stack([1 - share, share])


def tied(seed: int, n: int = 90) -> tuple[IntArray, FloatArray]:
    """Both classes, and scores of which many are equal."""
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    return y, np.round(np.clip(0.3 * y + 0.7 * rng.random(n), 0, 1), int(rng.integers(1, 4)))


def cases() -> st.SearchStrategy[list[tuple[int, int]]]:
    """Truth and score of a few cases, of both classes."""
    return st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=25).filter(
        lambda drawn: len({truth for truth, _ in drawn}) == 2
    )


def brute_point(name: str, y: IntArray, score: FloatArray) -> float:
    """Every threshold tried in turn."""
    wanted, _, percent, held = name.split("_")
    best = 0.0
    for threshold in [*np.unique(score), 2.0]:
        chosen = score >= threshold
        hits, kept = int(chosen[y == 1].sum()), int((~chosen[y == 0]).sum())
        figures = {"sensitivity": (hits, int((y == 1).sum())), "specificity": (kept, int((y == 0).sum()))}
        if 100 * figures[held][0] >= int(percent) * figures[held][1]:
            best = max(best, figures[wanted][0] / figures[wanted][1])
    return best


@pytest.mark.parametrize("seed", range(12))
def test_areas_with_ties_agree_with_scikit_learn(seed: int) -> None:
    y, score = tied(seed)
    assert METRICS["roc_auc"](y, two(score)) == pytest.approx(reference.roc_auc_score(y, score), rel=1e-12)
    assert METRICS["pr_auc"](y, two(score)) == pytest.approx(reference.average_precision_score(y, score), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_areas_of_more_classes_are_one_against_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = np.arange(120) % 4, rng.dirichlet(np.ones(4), 120)
    auc = reference.roc_auc_score(y, p, multi_class="ovr", average="macro")
    precision = reference.average_precision_score(np.eye(4)[y], p, average="macro")
    assert METRICS["roc_auc"](y, p) == pytest.approx(auc, rel=1e-12)
    assert METRICS["pr_auc"](y, p) == pytest.approx(precision, rel=1e-12)


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("seed", range(12))
def test_operating_points_are_the_best_of_all_thresholds(name: str, seed: int) -> None:
    y, score = tied(seed, n=50)
    assert METRICS[name](y, two(score)) == pytest.approx(brute_point(name, y, score), rel=1e-14)


def test_nine_tenths_of_ten_negatives_allow_one_alarm() -> None:
    y = np.array([0] * 10 + [1] * 4)
    score = np.array([0.9, 0.7, 0.5, *[0.1] * 7, 0.8, 0.8, 0.6, 0.4])
    assert METRICS["sensitivity_at_90_specificity"](y, two(score)) == 2 / 4
    assert METRICS["sensitivity_at_95_specificity"](y, two(score)) == 0
    assert METRICS["specificity_at_90_sensitivity"](y, two(score)) == 7 / 10


def test_a_constant_score_is_worth_a_coin() -> None:
    y = np.array([0, 1, 1, 0, 1])
    assert METRICS["roc_auc"](y, two(np.full(5, 0.3))) == 0.5
    assert METRICS["pr_auc"](y, two(np.full(5, 0.3))) == pytest.approx(3 / 5)
    assert METRICS["sensitivity_at_90_specificity"](y, two(np.full(5, 0.3))) == 0


@given(drawn=cases())
@settings(max_examples=150, deadline=None)
def test_the_area_sees_only_the_order(drawn: list[tuple[int, int]]) -> None:
    y, score = np.array(drawn).T
    share = score / 8
    area = METRICS["roc_auc"](y, two(share))
    assert METRICS["roc_auc"](y, two(0.1 + 0.5 * share**3)) == area
    assert METRICS["roc_auc"](1 - y, two(share)) == pytest.approx(1 - area, abs=1e-15)
    assert METRICS["roc_auc"](y, two(1 - share)) == pytest.approx(1 - area, abs=1e-15)
    wins = [(a > b) + (a == b) / 2 for a in score[y == 1] for b in score[y == 0]]
    assert area == pytest.approx(np.mean(wins), abs=1e-15)


@given(drawn=cases(), times=st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_every_case_twice_changes_no_area(drawn: list[tuple[int, int]], times: int) -> None:
    y, score = np.array(drawn).T
    again = np.tile(y, times), two(np.tile(score / 8, times))
    for name in ("roc_auc", "pr_auc"):
        assert METRICS[name](*again) == pytest.approx(METRICS[name](y, two(score / 8)), rel=1e-14)


@pytest.mark.parametrize("decimals", [1, 16])
@pytest.mark.parametrize(("overlap", "perfect"), [(0.45, True), (0.7, False)])
def test_the_areas_of_a_million_cases_stay_within_one(decimals: int, overlap: float, perfect: bool) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(1_000_000) % 2
    score = np.round((0.5 * y + overlap * rng.random(y.size)) / 1.2, decimals)
    area = METRICS["roc_auc"](y, two(score))
    assert area == 1.0 if perfect and decimals == 16 else 0.8 < area <= 1
    assert METRICS["roc_auc"](1 - y, two(score)) == pytest.approx(1 - area, abs=1e-15)
    assert METRICS["pr_auc"](y, two(score)) <= 1
