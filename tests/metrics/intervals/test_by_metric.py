"""The choice of the interval for each metric, and its notes on small samples."""

from __future__ import annotations

import subprocess
import sys
from math import isnan

import numpy as np
import pytest
from scipy.stats import binom

from medloop.errors import UnknownName
from medloop.metrics import METRICS
from medloop.metrics.intervals.area import COVERED, auc_interval
from medloop.metrics.intervals.bootstrap import Resampling, bootstrap
from medloop.metrics.intervals.by_metric import interval_for, intervals_for
from medloop.metrics.intervals.estimate import Interval
from medloop.metrics.intervals.proportions import wilson, wilson_clustered
from medloop.metrics.view import FloatArray, IntArray, decided, one_hot


def sample(n: int = 120, *, classes: int = 2, seed: int = 0) -> tuple[IntArray, FloatArray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    shares = np.exp(rng.normal(size=(n, classes)) + 1.5 * one_hot(y, classes))
    return y, shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "trials"),
    [("accuracy", "all"), ("recall", "truth"), ("specificity", "not truth"), ("precision", "chosen")],
)
def test_a_share_of_single_cases_gets_wilson(name: str, trials: str) -> None:
    y, p = sample()
    chosen = np.argmax(p, axis=1)
    mask = {"all": y >= 0, "truth": y == 1, "not truth": y == 0, "chosen": chosen == 1}[trials]
    expected = wilson(int((chosen == y)[mask].sum()), int(mask.sum()))
    assert interval_for(name, y, decided(p)) == expected
    assert expected.value == pytest.approx(METRICS[name](y, p))


def test_a_binary_area_gets_the_score_interval_of_its_cases_or_patients() -> None:
    y, p = sample()
    assert interval_for("roc_auc", y, p) == auc_interval(y, p[:, 1])
    assert interval_for("roc_auc", y, p, Resampling(groups=np.arange(120))) == auc_interval(y, p[:, 1])
    patients = np.arange(120) // 3
    assert interval_for("roc_auc", y, p, Resampling(groups=patients)) == auc_interval(y, p[:, 1], groups=patients)


def test_accuracy_of_three_classes_is_a_share_and_recall_is_not() -> None:
    y, p = sample(classes=3)
    assert interval_for("accuracy", y, p).method == "Wilson"
    assert "bootstrap" in interval_for("recall", y, p, Resampling(draws=50)).method
    assert "bootstrap" in interval_for("roc_auc", y, p, Resampling(draws=50)).method


@pytest.mark.parametrize("name", ["f1", "pr_auc", "brier"])
def test_patients_with_several_cases_get_the_clustered_bootstrap(name: str) -> None:
    y, p = sample()
    patients = np.arange(120) // 3
    found = interval_for(name, y, p, Resampling(groups=patients, draws=100))
    assert found == bootstrap(METRICS[name], y, p, Resampling(groups=patients, draws=100))
    assert "40 groups" in found.method


@pytest.mark.parametrize(("name", "kept"), [("accuracy", [0, 1]), ("recall", [1]), ("specificity", [0])])
def test_a_share_of_patients_cases_gets_the_clustered_wilson_interval(name: str, kept: list[int]) -> None:
    y, p = sample()
    patients, chosen = np.arange(120) // 3, decided(p)
    of = np.isin(y, kept)
    known = wilson_clustered((chosen.argmax(axis=1) == y)[of], patients[of])
    assert interval_for(name, y, chosen, Resampling(groups=patients)) == known
    assert known.n == of.sum()


def test_all_intervals_at_once_are_those_of_each_alone() -> None:
    y, p = sample()
    shown = {name: decided(p) if metric.uses == "decision" else p for name, metric in METRICS.items()}
    together = intervals_for(shown, y, Resampling(draws=60))
    assert list(together) == list(METRICS)
    assert together == {name: interval_for(name, y, shown[name], Resampling(draws=60)) for name in METRICS}


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("recall", "only 7 positives"),
        (
            "roc_auc",
            f"only 7 positives; {COVERED} 91 to 95% of samples with so few cases of a class",
        ),
        ("brier", "only 7 positives"),
        ("specificity", ""),
        ("accuracy", ""),
    ],
)
def test_few_cases_of_a_kind_are_noted(name: str, note: str) -> None:
    rng = np.random.default_rng(0)
    y = np.r_[np.ones(7, dtype=int), np.zeros(60, dtype=int)]
    share = np.clip(0.4 * y + 0.55 * rng.random(67), 0, 1)
    assert interval_for(name, y, np.column_stack([1 - share, share]), Resampling(draws=100)).note == note


def test_few_patients_are_noted_even_with_many_cases() -> None:
    y, p = sample(200)
    found = interval_for("roc_auc", y, p, Resampling(groups=np.arange(200) // 20, draws=50))
    assert found.note == "only 10 groups with positives; only 10 groups with negatives"


def test_a_rare_class_of_many_is_noted() -> None:
    y, p = sample(130, classes=3)
    kept = (y != 2) | (np.arange(130) < 20)
    assert interval_for("f1", y[kept], p[kept], Resampling(draws=50)).note.startswith("only 6 cases of class 2")


@pytest.mark.parametrize("name", ["f1", "mcc", "pr_auc", "sensitivity_at_95_specificity"])
def test_a_perfect_result_of_few_cases_is_not_certain(name: str) -> None:
    y = np.r_[np.ones(5, dtype=int), np.zeros(40, dtype=int)]
    low, high = METRICS[name].bounds
    found = interval_for(name, y, one_hot(y, 2), Resampling(draws=50))
    assert (found.value, found.upper) == (1.0, 1.0)
    assert found.lower == pytest.approx(high - (high - low) * (1 - 0.025 ** (1 / 5)))
    assert "5 of 5 cases" in found.method


def balanced(found: int, positives: int, spared: int, negatives: int, *, slices: int = 1) -> Interval:
    """The interval of the balanced accuracy where so many of each class are decided rightly."""
    y = np.repeat([1, 0], [positives, negatives])
    right = np.r_[np.arange(positives) < found, np.arange(negatives) < spared]
    y, chosen = np.repeat(y, slices), np.repeat(np.where(right, y, 1 - y), slices)
    groups = np.repeat(np.arange(positives + negatives), slices)
    return interval_for("balanced_accuracy", y, one_hot(chosen, 2), Resampling(groups=groups))


@pytest.mark.parametrize(("positives", "negatives"), [(2, 78), (5, 115), (8, 112)])
@pytest.mark.parametrize("slices", [1, 3])
def test_one_error_more_never_raises_a_bound_of_the_balanced_accuracy(
    positives: int, negatives: int, slices: int
) -> None:
    lowers, uppers = zip(
        *(
            (one.lower, one.upper)
            for spared in range(negatives - 12, negatives + 1)
            if (one := balanced(positives, positives, spared, negatives, slices=slices))
        ),
        strict=True,
    )
    # Several cases of a patient are seen to be alike only once some of them are wrong.
    slack = 0.0 if slices == 1 else 0.002
    assert all(np.diff(lowers) > -slack)
    assert all(np.diff(uppers) > -slack)
    fewer = balanced(positives - 1, positives, negatives, negatives, slices=slices)
    assert fewer.lower < lowers[-1]


@pytest.mark.parametrize(
    ("positives", "sensitivity", "negatives", "specificity"),
    [(3, 0.5, 117, 0.5), (5, 0.8, 115, 0.9), (8, 0.9, 112, 0.9), (20, 0.95, 100, 0.9)],
)
def test_the_balanced_accuracy_of_few_cases_of_a_class_is_covered(
    positives: int, sensitivity: float, negatives: int, specificity: float
) -> None:
    truth, covered, above = (sensitivity + specificity) / 2, 0.0, 0.0
    spread = binom.pmf(np.arange(negatives + 1), negatives, specificity)
    likely = np.flatnonzero(spread > 1e-5)
    for found in range(positives + 1):
        for spared in likely:
            one = balanced(found, positives, int(spared), negatives)
            chance = binom.pmf(found, positives, sensitivity) * spread[spared]
            covered += chance * (one.lower <= truth <= one.upper)
            above += chance * (one.lower > truth)
    assert covered > 0.93
    assert above < 0.025


def test_the_balanced_accuracy_of_three_classes_allows_for_each() -> None:
    y, p = sample(150, classes=3)
    whole, few = interval_for("balanced_accuracy", y, p), np.flatnonzero((y != 2) | (np.arange(150) < 12))
    assert whole.value == pytest.approx(METRICS["balanced_accuracy"](y, p))
    fewer = interval_for("balanced_accuracy", y[few], p[few])
    assert fewer.upper - fewer.lower > 1.3 * (whole.upper - whole.lower)


PERFECT_OF_FOUR = auc_interval(np.repeat([0, 1], 4), np.arange(8.0)).lower


@pytest.mark.parametrize(
    ("name", "lower"),
    [("accuracy", wilson(8, 8).lower), ("recall", wilson(4, 4).lower), ("roc_auc", PERFECT_OF_FOUR)],
    ids=["accuracy", "recall", "roc_auc"],
)
def test_flawless_patients_are_counted_and_not_their_cases(name: str, lower: float) -> None:
    y = np.repeat([0, 1], 40)
    found = interval_for(name, y, one_hot(y, 2), Resampling(groups=np.arange(80) // 10, draws=50))
    assert found.lower == pytest.approx(lower)
    assert found.upper == 1


def test_a_flawless_loss_is_bounded_from_above() -> None:
    y = np.repeat([0, 1], 10)
    found = interval_for("brier", y, one_hot(y, 2), Resampling(draws=50))
    assert (found.value, found.lower) == (0, 0)
    assert found.upper == pytest.approx(1 - 0.025 ** (1 / 10))


def test_a_constant_classifier_has_equal_draws() -> None:
    y, p = sample()
    assert "all draws are equal" in interval_for("log_loss", y, np.full_like(p, 0.5), Resampling(draws=50)).note


@pytest.mark.parametrize(
    ("name", "y", "note"),
    [
        ("recall", [0, 0, 0], "undefined: no positives"),
        ("roc_auc", [1, 1, 1], "undefined: no negatives"),
        ("precision", [1, 0, 0], "undefined: no predicted positives"),
        ("accuracy", [], "undefined: no cases"),
        ("f1", [], "undefined: no positives, no negatives"),
        ("calibration_slope", [0, 0, 1], "undefined on these cases"),
    ],
)
def test_the_note_of_an_undefined_value_names_the_missing_cases(name: str, y: list[int], note: str) -> None:
    found = interval_for(name, np.array(y, dtype=int), np.full((len(y), 2), [1.0, 0.0]))
    assert isnan(found.value)
    assert isnan(found.lower)
    assert found.note == note


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'roc_auc'"):
        interval_for("roc_acu", *sample())


def test_neither_metrics_nor_intervals_load_a_heavy_library() -> None:
    code = "import sys, medloop.metrics.intervals.by_metric; print({n.partition('.')[0] for n in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "numpy" in loaded
    assert not [name for name in ("scipy", "sklearn", "pandas", "torch") if f"'{name}'" in loaded]
