"""Metrics of probabilities against scikit-learn, against bins and fits worked out by hand."""

from __future__ import annotations

from math import isnan, log

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from medloop.metrics import METRICS
from medloop.metrics.calibration import ECE_BINS
from medloop.metrics.view import FloatArray, IntArray


def two(share: FloatArray) -> FloatArray:
    return np.column_stack([1 - share, share])


def risky(seed: int, n: int = 400, *, slope: float = 0.6, shift: float = 0.4) -> tuple[IntArray, FloatArray]:
    """Probabilities whose log-odds must be multiplied and shifted to be true."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) * 1.5
    y = (rng.random(n) < 1 / (1 + np.exp(-(slope * x + shift)))).astype(np.int64)
    return y, 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("classes", [2, 5])
def test_log_loss_agrees_with_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(0)
    y, p = np.arange(200) % classes, rng.dirichlet(np.ones(classes) / 2, 200)
    assert METRICS["log_loss"](y, p) == pytest.approx(reference.log_loss(y, p), rel=1e-12)


def test_a_certain_error_has_a_finite_log_loss() -> None:
    assert METRICS["log_loss"](np.array([0]), two(np.array([1.0]))) == pytest.approx(-log(np.finfo(float).eps))


def test_brier_agrees_with_scikit_learn_and_is_a_mean_over_more_classes() -> None:
    y, share = risky(1)
    assert METRICS["brier"](y, two(share)) == pytest.approx(reference.brier_score_loss(y, share), rel=1e-12)
    rng = np.random.default_rng(0)
    y, p = np.arange(90) % 3, rng.dirichlet(np.ones(3), 90)
    each = [reference.brier_score_loss(y == k, p[:, k]) for k in range(3)]
    assert METRICS["brier"](y, p) == pytest.approx(np.mean(each), rel=1e-12)


def test_ece_of_bins_of_equal_size_by_hand() -> None:
    rng = np.random.default_rng(0)
    y, share = rng.integers(0, 2, ECE_BINS * 20), rng.random(ECE_BINS * 20)
    bins = np.array_split(np.argsort(share), ECE_BINS)
    expected = np.mean([abs(share[one].mean() - y[one].mean()) for one in bins])
    assert METRICS["ece"](y, two(share)) == pytest.approx(expected, rel=1e-12)


def test_tied_probabilities_share_a_bin() -> None:
    y = np.array([1, 0, 0, 0, 1, 1, 1, 0] * 25)
    share = np.array([0.25, 0.25, 0.25, 0.25, 0.6, 0.6, 0.6, 0.6] * 25)
    assert METRICS["ece"](y, two(share)) == pytest.approx((0 + 0.15) / 2, rel=1e-12)


def test_fewer_cases_than_bins_are_each_their_own_bin() -> None:
    assert METRICS["ece"](np.array([1, 0]), two(np.array([0.7, 0.4]))) == pytest.approx((0.3 + 0.4) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_the_slope_is_that_of_a_logistic_regression(seed: int) -> None:
    y, share = risky(seed)
    x = np.log(share / (1 - share))[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y)
    assert METRICS["calibration_slope"](y, two(share)) == pytest.approx(fitted.coef_[0, 0], rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_intercept_corrects_the_mean(seed: int) -> None:
    y, share = risky(seed)
    shift = METRICS["calibration_intercept"](y, two(share))
    moved = 1 / (1 + np.exp(-(np.log(share / (1 - share)) + shift)))
    assert moved.mean() == pytest.approx(y.mean(), rel=1e-9)


def test_a_known_distortion_is_found_again() -> None:
    y, share = risky(0, n=200_000, slope=0.6, shift=0.0)
    assert METRICS["calibration_slope"](y, two(share)) == pytest.approx(0.6, abs=0.02)
    y, share = risky(0, n=200_000, slope=1.0, shift=0.5)
    assert METRICS["calibration_intercept"](y, two(share)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "share",
    [
        pytest.param([0.1, 0.2, 0.8, 0.9], id="separated"),
        pytest.param([0.9, 0.8, 0.2, 0.1], id="separated the wrong way round"),
        pytest.param([0.1, 0.5, 0.5, 0.9], id="touching in one tie"),
        pytest.param([0.5, 0.5, 0.5, 0.5], id="constant"),
        pytest.param([0.0, 0.0, 1.0, 1.0], id="sure and right"),
    ],
)
def test_there_is_no_slope_where_the_classes_do_not_overlap(share: list[float]) -> None:
    assert isnan(METRICS["calibration_slope"](np.array([0, 0, 1, 1]), two(np.array(share))))


@pytest.mark.parametrize("share", [[0.0, 1.0, 0.0, 1.0], [0.0, 1e-9, 1e-300, 1.0], [0.999, 0.999, 0.999, 0.999]])
def test_extreme_probabilities_have_a_finite_intercept(share: list[float]) -> None:
    assert abs(METRICS["calibration_intercept"](np.array([0, 0, 1, 1]), two(np.array(share)))) < 30


def test_outliers_among_equal_log_odds_do_not_break_the_fit() -> None:
    share = np.r_[np.tile([0.5, 0.5, 0.6, 0.6], 250), 1.0, 0.0]
    y = np.r_[np.arange(1000) % 2, 0, 1]
    assert METRICS["calibration_slope"](y, two(share)) < 0
