"""What a draw is, what the intervals are made of, and that a patient's cases stay together."""

from __future__ import annotations

import time
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest

from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.metrics.intervals import bootstrap as module
from medloop.metrics.intervals.bootstrap import (
    Resampling,
    bootstrap,
    bootstrap_each,
    bootstrap_means,
    draw_values,
    draw_weights,
    group_numbers,
    paired_bootstrap,
)
from medloop.metrics.view import FloatArray, IntArray, decided


def sample(n: int = 150, *, seed: int = 0, skill: float = 1.5) -> tuple[IntArray, FloatArray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    share = 1 / (1 + np.exp(-(skill * (y - 0.5) + rng.normal(size=n))))
    return y, np.column_stack([1 - share, share])


def test_a_draw_holds_as_many_groups_as_there_are() -> None:
    numbers, count = group_numbers(["b", "a", "b", "c", "b"], n=5)
    weights = np.concatenate(list(draw_weights(numbers, count, draws=500, seed=0)))
    assert weights.shape == (500, 5)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 4])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    assert abs(weights.mean() - 1) < 0.1


def test_the_draws_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p = sample()
    whole = bootstrap(METRICS["roc_auc"], y, p, Resampling(draws=101))
    monkeypatch.setattr(module, "MAX_WEIGHTS", 7 * y.size)
    assert bootstrap(METRICS["roc_auc"], y, p, Resampling(draws=101)) == whole


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    y, p = sample()
    assert bootstrap(METRICS["brier"], y, p, Resampling(seed=4)) == bootstrap(
        METRICS["brier"], y, p, Resampling(seed=4)
    )
    assert bootstrap(METRICS["brier"], y, p, Resampling(seed=4)) != bootstrap(
        METRICS["brier"], y, p, Resampling(seed=5)
    )


def brier(y: IntArray, p: FloatArray) -> float:
    return float(np.mean((p[:, 1] - y) ** 2))


def test_a_metric_that_is_one_plain_function_has_the_same_interval() -> None:
    y, p = sample(60)
    metric = METRICS["brier"]
    vectorised = bootstrap(metric, y, p, Resampling(draws=200))
    for plain in (metric.function, brier, replace(metric, function=brier)):
        found = bootstrap(plain, y, p, Resampling(draws=200))
        assert (found.lower, found.upper) == pytest.approx((vectorised.lower, vectorised.upper), rel=1e-12)


def test_the_interval_is_the_percentiles_of_resampled_cases() -> None:
    y, p = sample()
    found = bootstrap(METRICS["log_loss"], y, p, Resampling(draws=4000, level=0.9))
    rng = np.random.default_rng(99)
    losses = -np.log(p[np.arange(y.size), y])
    means = losses[rng.integers(0, y.size, (4000, y.size))].mean(axis=1)
    assert (found.lower, found.upper) == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.01)
    assert found.value == METRICS["log_loss"](y, p)


def test_many_metrics_share_their_draws_with_one_alone() -> None:
    y, p = sample()
    both = bootstrap_each(
        {"auc": (METRICS["roc_auc"], p), "recall": (METRICS["recall"], decided(p))}, y, Resampling(draws=100)
    )
    assert both["auc"] == bootstrap(METRICS["roc_auc"], y, p, Resampling(draws=100))
    assert both["recall"] == bootstrap(METRICS["recall"], y, decided(p), Resampling(draws=100))


def test_repeated_cases_of_a_patient_do_not_narrow_the_interval() -> None:
    y, p = sample(100)
    once = bootstrap(METRICS["roc_auc"], y, p, Resampling(draws=1000))
    patients = np.repeat(np.arange(100), 8)
    repeated = np.repeat(y, 8), np.repeat(p, 8, axis=0)
    naive = bootstrap(METRICS["roc_auc"], *repeated, Resampling(draws=1000))
    clustered = bootstrap(METRICS["roc_auc"], *repeated, Resampling(groups=patients, draws=1000))
    assert (clustered.lower, clustered.upper) == (once.lower, once.upper)
    assert clustered.upper - clustered.lower > 2 * (naive.upper - naive.lower)
    assert "100 groups" in clustered.method
    assert clustered.n == 800


def test_groups_are_identified_by_name() -> None:
    y, p = sample(80)
    names = np.array([f"patient-{i // 4}" for i in range(80)])
    assert bootstrap(METRICS["f1"], y, p, Resampling(groups=names)) == bootstrap(
        METRICS["f1"], y, p, Resampling(groups=list(names))
    )


def test_draws_that_leave_a_metric_undefined_are_counted() -> None:
    y = np.r_[1, np.zeros(29, dtype=int)]
    share = np.linspace(0.9, 0.1, 30)
    found = bootstrap(METRICS["roc_auc"], y, np.column_stack([1 - share, share]), Resampling(draws=500))
    values = draw_values(
        {"it": (METRICS["roc_auc"], np.column_stack([1 - share, share]))}, y, Resampling(groups=None, draws=500, seed=0)
    )["it"]
    undefined = int(np.isnan(values).sum())
    assert 130 < undefined < 240
    assert f"undefined in {undefined} of 500 draws" in found.note


def test_one_group_has_no_interval() -> None:
    y, p = sample(20)
    found = bootstrap(METRICS["accuracy"], y, p, Resampling(groups=["one"] * 20, draws=10))
    assert isnan(found.lower)
    assert "no interval" in found.note


def test_a_metric_that_resampling_worsens_is_called_biased() -> None:
    y, share = np.tile([1, 0, 0, 0, 0, 1, 1, 1, 1, 0], 20), np.tile(np.repeat([0.2, 0.8], 5), 20)
    found = bootstrap(METRICS["ece"], y, np.column_stack([1 - share, share]), Resampling(draws=500))
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.lower > 0.001
    assert "biased" in found.note


def test_a_better_classifier_differs_and_a_classifier_does_not_differ_from_itself() -> None:
    y, strong = sample(300, skill=3.0)
    _, weak = sample(300, skill=0.5)
    found = paired_bootstrap(METRICS["roc_auc"], y, strong, weak, Resampling(draws=500))
    assert found.difference == METRICS["roc_auc"](y, strong) - METRICS["roc_auc"](y, weak)
    assert 0 < found.lower < found.difference < found.upper
    assert found.p_value == pytest.approx(2 / 501)
    same = paired_bootstrap(METRICS["roc_auc"], y, strong, strong, Resampling(draws=100))
    assert (same.difference, same.lower, same.upper, same.p_value) == (0, 0, 0, 1)


def test_pairing_narrows_the_difference_of_related_scores() -> None:
    y, p = sample(300)
    noise = np.random.default_rng(5).normal(size=300) * 0.1
    share = 1 / (1 + np.exp(-(np.log(p[:, 1] / p[:, 0]) + noise)))
    near = np.column_stack([1 - share, share])
    paired = paired_bootstrap(METRICS["brier"], y, p, near, Resampling(draws=500))
    alone = bootstrap(METRICS["brier"], y, p, Resampling(draws=500))
    assert paired.upper - paired.lower < 0.3 * (alone.upper - alone.lower)


def test_pairs_of_a_patient_stay_together() -> None:
    y, strong = sample(60, skill=2.0)
    _, weak = sample(60, skill=1.0, seed=1)
    repeated = np.repeat(y, 5), np.repeat(strong, 5, axis=0), np.repeat(weak, 5, axis=0)
    naive = paired_bootstrap(METRICS["accuracy"], *repeated, Resampling(draws=500))
    clustered = paired_bootstrap(
        METRICS["accuracy"], *repeated, Resampling(groups=np.repeat(np.arange(60), 5), draws=500)
    )
    assert clustered.upper - clustered.lower > 1.7 * (naive.upper - naive.lower)


def test_an_undefined_difference_has_no_p_value() -> None:
    _, p = sample(20)
    found = paired_bootstrap(METRICS["roc_auc"], np.zeros(20, dtype=int), p, p, Resampling(draws=10))
    assert isnan(found.difference)
    assert isnan(found.p_value)


@pytest.mark.parametrize(
    "groups",
    [["a"] * 19, [None, *["a"] * 19], [float("nan"), *[1.0] * 19], np.array([3, *["a"] * 19], dtype=object), "a" * 20],
    ids=["too few", "missing", "numbers that are not whole", "mixed", "one text"],
)
def test_cases_without_a_group_are_refused(groups: Any) -> None:
    y, p = sample(20)
    with pytest.raises(UserError, match="group"):
        bootstrap(METRICS["accuracy"], y, p, Resampling(groups=groups, draws=10))


def test_no_draws_are_refused() -> None:
    y, p = sample(20)
    with pytest.raises(UserError, match="draw"):
        bootstrap(METRICS["accuracy"], y, p, Resampling(draws=0))


def test_the_interval_of_a_mean_is_that_of_its_metric() -> None:
    rng = np.random.default_rng(3)
    share, groups = rng.random(120), np.arange(120) // 3
    y = (rng.random(120) < share).astype(np.int64)
    p = np.column_stack([1 - share, share])
    (found, _) = bootstrap_means(np.column_stack([(share - y) ** 2, y]), Resampling(groups=groups, draws=200, seed=4))
    known = bootstrap(METRICS["brier"], y, p, Resampling(groups=groups, draws=200, seed=4))
    assert (found.value, found.lower, found.upper) == pytest.approx((known.value, known.lower, known.upper))


def test_the_mean_of_one_group_has_no_interval() -> None:
    (found,) = bootstrap_means([[1.0], [2.0]], Resampling(groups=[0, 0], draws=100))
    assert (found.value, found.n) == (1.5, 2)
    assert np.isnan(found.lower)


def test_ten_thousand_draws_of_ten_thousand_cases_take_less_than_ten_seconds_of_a_core() -> None:
    y, p = sample(10_000)
    patients = np.random.default_rng(0).integers(0, 4000, 10_000)
    started = time.process_time()
    found = bootstrap(METRICS["roc_auc"], y, p, Resampling(groups=patients, draws=10_000))
    assert time.process_time() - started < 10
    assert found.upper - found.lower < 0.03
