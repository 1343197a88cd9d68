"""What decides is fitted on held-out training cases, by the recipe's rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.bundle.calibrate import (
    conformal_quantiles,
    fit_outliers,
    fit_temperature,
    log_probabilities,
    min_patients,
    positive_share,
    sample,
)
from medloop.bundle.operating_point import choose_threshold
from medloop.errors import UserError
from medloop.metrics.view import softmax

CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60).filter(
    lambda cases: len({truth for truth, _ in cases}) == 2
)


def arrays(cases: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([int(truth) for truth, _ in cases]), np.array([share / 20 for _, share in cases])


@given(CASES, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_a_sensitivity_is_reached_with_the_highest_threshold_that_reaches_it(
    cases: list[tuple[bool, int]], wanted: float
) -> None:
    truth, share = arrays(cases)
    threshold = choose_threshold(f"sensitivity >= {wanted}", truth, share)
    assert np.mean(share[truth == 1] >= threshold) >= wanted
    higher = share[share >= threshold].min() + 1e-9
    assert np.mean(share[truth == 1] >= higher) < wanted


@given(CASES, st.sampled_from([0.5, 0.8, 0.95]))
def test_a_specificity_is_reached_unless_no_threshold_can(cases: list[tuple[bool, int]], wanted: float) -> None:
    truth, share = arrays(cases)
    threshold = choose_threshold(f"specificity >= {wanted}", truth, share)
    reached = np.mean(share[truth == 0] < threshold)
    assert reached >= wanted or np.mean(share[truth == 0] < 1.0) < wanted


@given(CASES)
def test_youden_is_the_best_sum_of_both(cases: list[tuple[bool, int]]) -> None:
    truth, share = arrays(cases)

    def both(cut: float) -> float:
        return float(np.mean(share[truth == 1] >= cut) + np.mean(share[truth == 0] < cut))

    threshold = choose_threshold("youden", truth, share)
    assert both(threshold) == pytest.approx(max(both(cut) for cut in {*share, 1.0}))


def test_a_probability_is_taken_at_its_word() -> None:
    assert choose_threshold("probability >= 0.25", np.array([0, 1]), np.array([0.1, 0.9])) == 0.25


def test_the_threshold_is_between_cases_so_that_rounding_does_not_decide() -> None:
    truth, share = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])
    assert choose_threshold("sensitivity >= 1", truth, share) == pytest.approx(0.4)


def test_another_rule_is_refused() -> None:
    with pytest.raises(UserError, match=r"export\.threshold .* is not a rule"):
        choose_threshold("as you like", np.array([0, 1]), np.array([0.1, 0.9]))


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_cases_is_found_again(true: float) -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 3, (5000, 3))
    y = np.array([draw.choice(3, p=row) for row in softmax(logits, true)])
    assert fit_temperature(logits, y) == pytest.approx(true, rel=0.1)


def test_perfect_logits_keep_a_finite_temperature() -> None:
    logits = log_probabilities(np.array([[1.0, 0.0], [0.0, 1.0]] * 10))
    assert 0.04 < fit_temperature(logits, np.array([0, 1] * 10)) < 20.1


def test_the_log_of_nothing_is_finite() -> None:
    assert np.isfinite(log_probabilities(np.array([[0.0, 1.0]]))).all()


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_conformal_sets_hold_the_truth_by_class_at_the_stated_rate(alpha: float) -> None:
    draw = np.random.default_rng(1)
    y = draw.choice(3, 40_000, p=[0.7, 0.2, 0.1])
    probabilities = softmax(draw.normal(0, 1, (len(y), 3)) + 1.5 * np.eye(3)[y], 1.0)
    fitted, fresh = slice(0, 20_000), slice(20_000, None)
    quantiles = np.array(conformal_quantiles(probabilities[fitted], y[fitted], alpha=alpha))
    covered = 1 - probabilities[fresh][np.arange(20_000), y[fresh]] <= quantiles[y[fresh]]
    for label in range(3):
        n = int((y[fresh] == label).sum())
        assert covered[y[fresh] == label].mean() == pytest.approx(1 - alpha, abs=5 * np.sqrt(alpha * (1 - alpha) / n))


def test_a_class_of_too_few_cases_shares_the_quantile_of_all_unless_its_own_cases_lie_farther_out() -> None:
    y = np.repeat([0, 1], [20, 3])
    shares = np.concatenate([np.linspace(0.6, 0.99, 20), [0.97, 0.98, 0.99]])
    probabilities = np.where(np.arange(2) == y[:, None], shares[:, None], 1 - shares[:, None])
    first, second = conformal_quantiles(probabilities, y, alpha=0.1)
    over_all = np.sort(1 - shares)[int(np.ceil(24 * 0.9)) - 1]
    assert second == pytest.approx(over_all)
    assert first == pytest.approx(np.sort(1 - shares[:20])[18])
    probabilities[-1] = [0.9, 0.1]
    assert conformal_quantiles(probabilities, y, alpha=0.1)[1] == pytest.approx(0.9)


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.3, 3), (1 / 3, 2)])
def test_a_class_has_a_quantile_of_its_own_from_the_first_number_of_cases_that_give_it_a_rank(
    alpha: float, least: int
) -> None:
    assert min_patients(alpha) == least
    assert int(np.ceil((least + 1) * (1 - alpha) - 1e-9)) <= least
    assert int(np.ceil(least * (1 - alpha) - 1e-9)) > least - 1


def test_a_patient_counts_once_however_many_slices_it_has() -> None:
    draw = np.random.default_rng(2)
    shares = draw.uniform(size=10)
    probabilities = np.column_stack([shares, 1 - shares])
    each, y = conformal_quantiles(probabilities, np.zeros(10, int), alpha=0.27), np.zeros(40, int)
    patients = [f"p{number}" for number in np.repeat(np.arange(10), 4)]
    copied = conformal_quantiles(np.repeat(probabilities, 4, axis=0), y, alpha=0.27, groups=patients)
    assert copied == each
    assert conformal_quantiles(np.repeat(probabilities, 4, axis=0), y, alpha=0.27)[0] < each[0]


def test_about_the_stated_share_of_ordinary_cases_is_beyond_the_limit() -> None:
    draw = np.random.default_rng(2)
    fitted = fit_outliers(draw.normal(0, 2, (4000, 5)), quantile=0.99, seed=0)
    fresh = fitted.distances(draw.normal(0, 2, (20_000, 5)))
    assert np.mean(fresh > fitted.limit) == pytest.approx(0.01, abs=0.005)
    assert (fitted.distances(draw.normal(0, 2, (50, 5)) + 40) > fitted.limit).all()


@pytest.mark.parametrize("shape", [(30, 1), (6, 4), (10, 60)], ids=["one column", "few cases", "fewer than columns"])
def test_the_spread_can_always_be_inverted(shape: tuple[int, int]) -> None:
    embedding = np.random.default_rng(3).normal(0, 1, shape)
    embedding[:, 0] = 1.0
    fitted = fit_outliers(embedding, quantile=0.999, seed=0)
    assert np.isfinite(fitted.distances(embedding)).all()
    assert np.isfinite(fitted.limit)


def test_the_same_seed_gives_the_same_limit_and_sample() -> None:
    embedding = np.random.default_rng(4).normal(0, 1, (50, 3))
    assert fit_outliers(embedding, quantile=0.9, seed=1).limit == fit_outliers(embedding, quantile=0.9, seed=1).limit
    assert sample(50, size=10, seed=1).tolist() == sample(50, size=10, seed=1).tolist() != list(range(10))
    assert sample(5, size=10, seed=1).tolist() == [0, 1, 2, 3, 4]


def test_the_positive_share_is_the_sum_over_positive_classes() -> None:
    shares = positive_share(np.array([[0.2, 0.5, 0.3]]), ("a", "b", "c"), ("b", "c"))
    assert shares == pytest.approx([0.8])
