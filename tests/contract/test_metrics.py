"""The contract of every entry of METRICS."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medloop.errors import UserError
from medloop.metrics import METRICS, Metric
from medloop.metrics.every import every_metric
from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.gain import gain
from medloop.metrics.metric import values_of_draws
from medloop.metrics.view import FloatArray, IntArray, decided, one_hot

each_metric = pytest.mark.parametrize("name", list(METRICS))
DECISIVE = [name for name, metric in METRICS.items() if metric.better != "nearest"]
UNDEFINED_WITHOUT_POSITIVES = {
    "balanced_accuracy",
    "recall",
    "f1",
    "mcc",
    "roc_auc",
    "pr_auc",
    "sensitivity_at_90_specificity",
    "sensitivity_at_95_specificity",
    "specificity_at_90_sensitivity",
    "specificity_at_95_sensitivity",
    "calibration_slope",
    "calibration_intercept",
}
UNDEFINED_WITHOUT_NEGATIVES = UNDEFINED_WITHOUT_POSITIVES - {"recall", "f1", "pr_auc"} | {"specificity"}


def sample(classes: int, *, n: int = 240, skill: float = 1.5, seed: int = 0) -> tuple[IntArray, FloatArray]:
    """Return cases of every class, with informative probabilities."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    logits = rng.normal(size=(n, classes)) + skill * one_hot(y, classes)
    shares = np.exp(logits)
    return y, shares / shares.sum(axis=1, keepdims=True)


def measure(name: str, y: Any, p: FloatArray) -> float:
    return METRICS[name](y, decided(p) if METRICS[name].uses == "decision" else p)


def calibrated() -> tuple[IntArray, FloatArray]:
    """One in five is positive at a probability of 0.2, four in five at 0.8."""
    y = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    share = np.repeat([0.2, 0.8], 5)
    return y, np.column_stack([1 - share, share])


@each_metric
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_metric_is_a_number_within_its_bounds(name: str, classes: int) -> None:
    low, high = METRICS[name].bounds
    assert low <= measure(name, *sample(classes)) <= high


@pytest.mark.parametrize("name", DECISIVE)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_perfect_prediction_is_the_best(name: str, classes: int) -> None:
    y, p = sample(classes)
    best = measure(name, y, one_hot(y, classes))
    assert best == pytest.approx(METRICS[name].ideal, abs=1e-12)
    assert METRICS[name].distance(best) < METRICS[name].distance(measure(name, y, p))


@pytest.mark.parametrize("name", sorted(set(METRICS) - set(DECISIVE)))
def test_true_probabilities_are_the_best_where_calibration_is_measured(name: str) -> None:
    y, p = calibrated()
    odds = (p[:, 1] / p[:, 0]) ** 2 * 1.5
    distorted = np.column_stack([1 / (1 + odds), odds / (1 + odds)])
    assert measure(name, y, p) == pytest.approx(METRICS[name].ideal, abs=1e-7)
    assert METRICS[name].distance(measure(name, y, distorted)) > 0.1


@pytest.mark.parametrize("name", [name for name in DECISIVE if name != "ece"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_stated_direction_is_the_one_of_more_skill(name: str, classes: int) -> None:
    weak, strong = (measure(name, *sample(classes, n=1500, skill=skill)) for skill in (0.5, 2.5))
    assert (strong > weak) == (METRICS[name].better == "higher")
    assert METRICS[name].distance(strong) < METRICS[name].distance(weak)


def test_the_stated_direction_of_ece_is_the_one_of_truer_probabilities() -> None:
    y, p = calibrated()
    assert measure("ece", y, p) < measure("ece", y, 0.5 * p + 0.25)
    assert METRICS["ece"].better == "lower"


@each_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_the_order_of_the_cases_does_not_matter(name: str, classes: int) -> None:
    y, p = sample(classes)
    p = np.round(p[:, 1:], 1) / classes
    p = np.column_stack([1 - p.sum(axis=1), p])
    order = np.random.default_rng(1).permutation(y.size)
    assert measure(name, y[order], p[order]) == pytest.approx(measure(name, y, p), rel=1e-9, nan_ok=True)


@each_metric
def test_the_names_of_the_classes_do_not_matter(name: str) -> None:
    y, p = sample(4)
    renamed = np.array([2, 0, 3, 1])
    assert measure(name, renamed[y], p[:, np.argsort(renamed)]) == pytest.approx(measure(name, y, p), rel=1e-9)


@each_metric
@pytest.mark.parametrize(("only", "undefined"), [(0, UNDEFINED_WITHOUT_POSITIVES), (1, UNDEFINED_WITHOUT_NEGATIVES)])
def test_one_class_alone_is_nan_where_the_metric_needs_the_other(name: str, only: int, undefined: set[str]) -> None:
    _, p = sample(2)
    value = measure(name, np.full(len(p), only), p)
    assert isnan(value) == (name in undefined)


@each_metric
def test_a_class_without_cases_is_not_averaged_away(name: str) -> None:
    y, p = sample(3)
    present = y < 2
    assert isnan(measure(name, y[present], p[present])) == (name in UNDEFINED_WITHOUT_POSITIVES - {"mcc"}), (
        "a macro average over fewer classes is another metric"
    )


@each_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_no_cases_give_nan(name: str, classes: int) -> None:
    assert isnan(METRICS[name](np.array([], dtype=int), np.zeros((0, classes))))


@each_metric
@pytest.mark.parametrize(
    ("y", "p"),
    [
        pytest.param([0, 1], [0.2, 0.8], id="one column of probabilities"),
        pytest.param([0, 1], [[1.0], [1.0]], id="one class"),
        pytest.param([0, 1, 1], [[0.5, 0.5], [0.5, 0.5]], id="another number of cases"),
        pytest.param([[0, 1]], [[0.5, 0.5], [0.5, 0.5]], id="truth in two dimensions"),
        pytest.param([0, 1], [[0.5, 0.5], [float("nan"), 0.5]], id="nan"),
        pytest.param([0, 1], [[0.5, 0.5], [float("inf"), 0.5]], id="infinity"),
        pytest.param([0, 2], [[0.5, 0.5], [0.5, 0.5]], id="label too high"),
        pytest.param([-1, 1], [[0.5, 0.5], [0.5, 0.5]], id="label too low"),
        pytest.param([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], id="labels that are not whole numbers"),
        pytest.param([0, 1], [[3.0, -2.0], [0.5, 0.5]], id="logits"),
        pytest.param([0, 1], [[0.5, 0.9], [0.5, 0.5]], id="sum above one"),
    ],
)
def test_invalid_arguments_are_refused(name: str, y: Any, p: Any) -> None:
    with pytest.raises(UserError) as refused:
        METRICS[name](np.array(y), np.array(p))
    assert refused.value.hint


@each_metric
def test_probabilities_of_a_float32_softmax_are_accepted(name: str) -> None:
    y, p = sample(3)
    assert measure(name, y, p.astype(np.float32)) == pytest.approx(measure(name, y, p), rel=1e-4)


@each_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_weights_count_as_repeated_cases(name: str, classes: int) -> None:
    y, p = sample(classes, n=60)
    p = (np.round(p * 20) + one_hot(y, classes)) / (np.round(p * 20).sum(axis=1, keepdims=True) + 1)
    weights = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=40).astype(float)
    shown = decided(p) if METRICS[name].uses == "decision" else p
    repeated = [np.repeat(np.arange(60), row.astype(int)) for row in weights]
    expected = np.array([METRICS[name](y[cases], shown[cases]) for cases in repeated])
    exact = METRICS[name].uses == "decision" or name.endswith(("roc_auc", "specificity", "sensitivity"))
    tolerance = 1e-15 if exact else 1e-8
    np.testing.assert_allclose(
        values_of_draws(METRICS[name], y, shown, weights), expected, rtol=tolerance, atol=tolerance
    )


@each_metric
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_ties_and_rare_classes_never_leave_the_bounds(name: str, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    share = data.draw(arrays.arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])))
    y = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 1)))
    value = measure(name, y, np.column_stack([1 - share, share]))
    low, high = METRICS[name].bounds
    assert isnan(value) or low <= value <= high


@each_metric
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_metric_has_an_interval(name: str, classes: int, grouped: bool) -> None:
    y, p = sample(classes, n=120)
    shown = decided(p) if METRICS[name].uses == "decision" else p
    found = interval_for(name, y, shown, Resampling(groups=np.arange(120) // 2 if grouped else None, draws=100))
    low, high = METRICS[name].bounds
    assert found.value == METRICS[name](y, shown)
    assert low <= found.lower < found.upper <= high
    assert found.lower <= found.value <= found.upper or "biased" in found.note
    assert 0 < found.n <= 120
    assert found.method


def test_a_new_metric_is_one_plain_function_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def share_of_class_one(y: IntArray, p: FloatArray) -> float:
        return float(p[y == 1, 1].mean())

    entry = Metric(function=share_of_class_one, uses="probability", better="higher", ideal=1.0, says="mean score")
    monkeypatch.setitem(METRICS, "new", entry)
    y, p = sample(2, n=60)
    _, weak = sample(2, n=60, skill=0.1)
    found = interval_for("new", y, p, Resampling(draws=50))
    assert found.lower < found.value == entry(y, p) < found.upper
    assert gain("new", y, p, weak, Resampling(draws=50)).difference == pytest.approx(entry(y, p) - entry(y, weak))
    assert every_metric(y, p, decided(p))["new"] == entry(y, p)


@each_metric
def test_the_entry_describes_the_metric(name: str) -> None:
    metric = METRICS[name]
    assert 10 < len(metric.says) < 100
    assert not metric.says.endswith(".")
    assert metric.bounds[0] <= metric.ideal <= metric.bounds[1]
    assert metric.proportion == (name in {"accuracy", "precision", "recall", "specificity"})
