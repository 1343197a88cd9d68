"""What holds for every entry of METRICS, so that a new one cannot be half right."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.metrics.intervals import interval_for
from medloop.metrics.view import FloatArray, IntArray, decided, one_hot

every_metric = pytest.mark.parametrize("name", list(METRICS))
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
    """Cases of every class, and probabilities that know something about them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    logits = rng.normal(size=(n, classes)) + skill * one_hot(y, classes)
    shares = np.exp(logits)
    return y, shares / shares.sum(axis=1, keepdims=True)


def measure(name: str, y: Any, p: FloatArray) -> float:
    return METRICS[name](y, decided(p) if METRICS[name].uses == "decision" else p)


def calibrated() -> tuple[IntArray, FloatArray]:
    """One in five positive where 0.2 is said, four in five where 0.8 is."""
    y = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    share = np.repeat([0.2, 0.8], 5)
    return y, np.column_stack([1 - share, share])


@every_metric
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


@every_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_the_order_of_the_cases_does_not_matter(name: str, classes: int) -> None:
    y, p = sample(classes)
    p = np.round(p[:, 1:], 1) / classes
    p = np.column_stack([1 - p.sum(axis=1), p])
    order = np.random.default_rng(1).permutation(y.size)
    assert measure(name, y[order], p[order]) == pytest.approx(measure(name, y, p), rel=1e-9, nan_ok=True)


@every_metric
def test_the_names_of_the_classes_do_not_matter(name: str) -> None:
    y, p = sample(4)
    renamed = np.array([2, 0, 3, 1])
    assert measure(name, renamed[y], p[:, np.argsort(renamed)]) == pytest.approx(measure(name, y, p), rel=1e-9)


@every_metric
@pytest.mark.parametrize(("only", "undefined"), [(0, UNDEFINED_WITHOUT_POSITIVES), (1, UNDEFINED_WITHOUT_NEGATIVES)])
def test_one_class_alone_gives_nan_where_the_metric_needs_the_other(name: str, only: int, undefined: set[str]) -> None:
    _, p = sample(2)
    value = measure(name, np.full(len(p), only), p)
    assert isnan(value) == (name in undefined)


@every_metric
def test_a_class_without_cases_is_not_averaged_away(name: str) -> None:
    y, p = sample(3)
    present = y < 2
    assert isnan(measure(name, y[present], p[present])) == (name in UNDEFINED_WITHOUT_POSITIVES - {"mcc"}), (
        "a macro average over fewer classes is another metric"
    )


@every_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_no_cases_give_nan(name: str, classes: int) -> None:
    assert isnan(METRICS[name](np.array([], dtype=int), np.zeros((0, classes))))


@every_metric
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
def test_what_cannot_be_measured_is_refused(name: str, y: Any, p: Any) -> None:
    with pytest.raises(UserError) as refused:
        METRICS[name](np.array(y), np.array(p))
    assert refused.value.hint


@every_metric
def test_probabilities_of_a_float32_softmax_are_accepted(name: str) -> None:
    y, p = sample(3)
    assert measure(name, y, p.astype(np.float32)) == pytest.approx(measure(name, y, p), rel=1e-4)


@every_metric
@pytest.mark.parametrize("classes", [2, 3])
def test_weights_stand_for_repeated_cases(name: str, classes: int) -> None:
    y, p = sample(classes, n=60)
    p = (np.round(p * 20) + one_hot(y, classes)) / (np.round(p * 20).sum(axis=1, keepdims=True) + 1)
    weights = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=40).astype(float)
    shown = decided(p) if METRICS[name].uses == "decision" else p
    weighted = METRICS[name].weighted
    assert weighted is not None
    repeated = [np.repeat(np.arange(60), row.astype(int)) for row in weights]
    expected = np.array([METRICS[name](y[cases], shown[cases]) for cases in repeated])
    exact = METRICS[name].uses == "decision" or name.endswith(("roc_auc", "specificity", "sensitivity"))
    tolerance = 1e-15 if exact else 1e-8
    np.testing.assert_allclose(weighted(y, shown, weights), expected, rtol=tolerance, atol=tolerance)


@every_metric
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_ties_and_rare_classes_never_leave_the_bounds(name: str, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    share = data.draw(arrays.arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])))
    y = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 1)))
    value = measure(name, y, np.column_stack([1 - share, share]))
    low, high = METRICS[name].bounds
    assert isnan(value) or low <= value <= high


@every_metric
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_metric_has_an_interval(name: str, classes: int, grouped: bool) -> None:
    y, p = sample(classes, n=120)
    shown = decided(p) if METRICS[name].uses == "decision" else p
    found = interval_for(name, y, shown, groups=np.arange(120) // 2 if grouped else None, draws=100)
    low, high = METRICS[name].bounds
    assert found.value == METRICS[name](y, shown)
    assert low <= found.lower < found.upper <= high
    assert found.lower <= found.value <= found.upper or "biased" in found.note
    assert 0 < found.n <= 120
    assert found.method


@every_metric
def test_the_entry_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert 10 < len(metric.says) < 100
    assert not metric.says.endswith(".")
    assert metric.bounds[0] <= metric.ideal <= metric.bounds[1]
    assert metric.proportion == (name in {"accuracy", "precision", "recall", "specificity"})
