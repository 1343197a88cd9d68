"""Metrics of decisions against numbers worked out by hand and against scikit-learn."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from sklearn import metrics as reference

from medloop.errors import UserError
from medloop.metrics import METRICS
from medloop.metrics.counts import classification_report, confusion
from medloop.metrics.view import one_hot

# 4 true positives, 1 missed, 2 false alarms, 3 true negatives.
TRUTH = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
DECISION = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 7 / 10),
        ("balanced_accuracy", (4 / 5 + 3 / 5) / 2),
        ("precision", 4 / 6),
        ("recall", 4 / 5),
        ("specificity", 3 / 5),
        ("f1", 8 / 11),
        ("mcc", (4 * 3 - 2 * 1) / (6 * 5 * 5 * 4) ** 0.5),
    ],
)
def test_ten_cases_by_hand(name: str, expected: float) -> None:
    assert METRICS[name](TRUTH, one_hot(DECISION, 2)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, d = rng.integers(0, 2, (2, 80))
    expected = {
        "accuracy": reference.accuracy_score(y, d),
        "balanced_accuracy": reference.balanced_accuracy_score(y, d),
        "precision": reference.precision_score(y, d),
        "recall": reference.recall_score(y, d),
        "specificity": reference.recall_score(y, d, pos_label=0),
        "f1": reference.f1_score(y, d),
        "mcc": reference.matthews_corrcoef(y, d),
    }
    assert {name: METRICS[name](y, one_hot(d, 2)) for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_more_classes_are_the_macro_average_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, d = rng.integers(0, 4, (2, 120))
    outside = [reference.recall_score(y != k, d != k) for k in range(4)]
    expected = {
        "accuracy": reference.accuracy_score(y, d),
        "balanced_accuracy": reference.balanced_accuracy_score(y, d),
        "precision": reference.precision_score(y, d, average="macro"),
        "recall": reference.recall_score(y, d, average="macro"),
        "specificity": np.mean(outside),
        "f1": reference.f1_score(y, d, average="macro"),
        "mcc": reference.matthews_corrcoef(y, d),
    }
    assert {name: METRICS[name](y, one_hot(d, 4)) for name in expected} == pytest.approx(expected, rel=1e-12)


def test_a_class_that_is_never_chosen_has_no_precision_but_an_f1_of_zero() -> None:
    never = one_hot(np.zeros(10, dtype=int), 2)
    assert isnan(METRICS["precision"](TRUTH, never))
    assert METRICS["f1"](TRUTH, never) == 0
    assert METRICS["mcc"](TRUTH, never) == 0


def test_the_rows_of_the_confusion_matrix_are_the_truth() -> None:
    assert confusion(TRUTH, DECISION, 2).tolist() == [[3, 2], [1, 4]]


def test_the_confusion_matrix_includes_classes_without_cases() -> None:
    assert confusion([0, 2], [2, 2], 4).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("y", "d", "classes"), [([0, 1], [0], 2), ([0, 1], [0, 2], 2), ([0], [0], 0)])
def test_a_confusion_matrix_of_other_classes_is_refused(y: list[int], d: list[int], classes: int) -> None:
    with pytest.raises(UserError):
        confusion(y, d, classes)


@pytest.mark.parametrize("n", [3, 45, 1001, 999_983])
def test_flawless_decisions_have_a_correlation_of_exactly_one(n: int) -> None:
    y = (np.arange(n) % 7 == 0).astype(int)
    assert METRICS["mcc"](y, one_hot(y, 2)) == 1.0
    assert METRICS["mcc"](y, one_hot(1 - y, 2)) == -1.0


def test_the_report_by_class_names_every_class_even_one_without_cases() -> None:
    lines = classification_report(TRUTH, DECISION, ["well", "ill", "unseen"]).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["ill"] == ["0.6667", "0.8000", "0.7273", "5"]
    assert rows["unseen"][-1] == "0"
