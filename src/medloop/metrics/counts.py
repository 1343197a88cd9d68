"""Metrics of decisions, all computed from the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.metrics.metric import checked_truth, mean_over_classes, ratio
from medloop.metrics.view import FloatArray, IntArray, one_hot


@dataclass(frozen=True)
class Counts:
    """The diagonal and margins of the confusion matrix, by draw and class; the number of cases, by draw."""

    correct: FloatArray
    truth: FloatArray
    predicted: FloatArray
    cases: FloatArray

    def summarise(self, by_class: FloatArray) -> FloatArray:
        """Return the value of class 1 of two, else the mean over the classes."""
        return by_class[:, 1] if by_class.shape[1] == 2 else mean_over_classes(by_class)


def count(y: IntArray, p: FloatArray, weights: FloatArray) -> Counts:
    """Count the decisions; sums of integers, so the order of the cases cannot change them."""
    truth, predicted = one_hot(y, p.shape[1]), one_hot(np.argmax(p, axis=1), p.shape[1])
    return Counts(weights @ (truth * predicted), weights @ truth, weights @ predicted, weights.sum(axis=1))


def accuracy(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the share of cases that are classified correctly."""
    counts = count(y, p, weights)
    return ratio(counts.correct.sum(axis=1), counts.cases)


def balanced_accuracy(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the mean of the sensitivities of all classes."""
    counts = count(y, p, weights)
    return mean_over_classes(ratio(counts.correct, counts.truth))


def precision(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the share of decisions for a class that are correct; NaN where it was never chosen."""
    counts = count(y, p, weights)
    return counts.summarise(ratio(counts.correct, counts.predicted))


def recall(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the share of a class that is found."""
    counts = count(y, p, weights)
    return counts.summarise(ratio(counts.correct, counts.truth))


def specificity(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the share of the cases of other classes that are not classified as this one."""
    counts = count(y, p, weights)
    outside = counts.cases[:, None] - counts.truth
    return counts.summarise(ratio(outside - (counts.predicted - counts.correct), outside))


def f1(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the harmonic mean of precision and recall: 0 for a class never chosen, NaN for one that does not occur."""
    counts = count(y, p, weights)
    return counts.summarise(ratio(2 * counts.correct, np.where(counts.truth > 0, counts.truth + counts.predicted, 0)))


def mcc(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the Matthews correlation: 0 when one class is always chosen, NaN when only one occurs."""
    counts = count(y, p, weights)
    n = counts.cases
    agreement = n * counts.correct.sum(axis=1) - (counts.truth * counts.predicted).sum(axis=1)
    spread_truth = n**2 - (counts.truth**2).sum(axis=1)
    spread_predicted = n**2 - (counts.predicted**2).sum(axis=1)
    # One root of the product is exact for a square, two roots are not: perfect decisions must give exactly 1.
    value = ratio(agreement, np.sqrt(spread_truth * spread_predicted))
    return np.clip(np.where((spread_truth > 0) & (spread_predicted == 0), 0.0, value), -1.0, 1.0)


def confusion(y_true: Any, y_pred: Any, classes: int) -> IntArray:
    """Return the confusion matrix: rows are the true classes, columns the predicted ones."""
    if classes < 1:
        raise UserError(f"A confusion matrix of {classes} classes is not possible.", "Pass the number of classes.")
    n = np.asarray(y_true).size
    truth = checked_truth(y_true, n=n, classes=classes)
    predicted = checked_truth(y_pred, n=n, classes=classes)
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def classification_report(y_true: Any, y_pred: Any, names: Sequence[str]) -> str:
    """Return scikit-learn's table of precision, recall and F1 by class."""
    from sklearn.metrics import classification_report as table

    labels = range(len(names))
    return str(table(y_true, y_pred, labels=labels, target_names=names, digits=4, zero_division=0))
