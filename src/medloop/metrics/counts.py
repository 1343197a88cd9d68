"""Metrics of decisions: everything that can be read off a confusion matrix."""

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
    """Margins of the confusion matrix by draw and class: right, true and predicted; and all cases by draw."""

    right: FloatArray
    truth: FloatArray
    predicted: FloatArray
    cases: FloatArray

    def shown(self, by_class: FloatArray) -> FloatArray:
        """Class 1 of two, else the mean over the classes."""
        return by_class[:, 1] if by_class.shape[1] == 2 else mean_over_classes(by_class)


def count(y: IntArray, p: FloatArray, weights: FloatArray) -> Counts:
    """Count the decisions; whole numbers, so equal whatever the order of the cases."""
    truth, predicted = one_hot(y, p.shape[1]), one_hot(np.argmax(p, axis=1), p.shape[1])
    return Counts(weights @ (truth * predicted), weights @ truth, weights @ predicted, weights.sum(axis=1))


def accuracy(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of the cases that were decided rightly."""
    counts = count(y, p, weights)
    return ratio(counts.right.sum(axis=1), counts.cases)


def balanced_accuracy(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean over the classes of the share of each that was found."""
    counts = count(y, p, weights)
    return mean_over_classes(ratio(counts.right, counts.truth))


def precision(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of the decisions for a class that were right; nan where it was never chosen."""
    counts = count(y, p, weights)
    return counts.shown(ratio(counts.right, counts.predicted))


def recall(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of a class that was found."""
    counts = count(y, p, weights)
    return counts.shown(ratio(counts.right, counts.truth))


def specificity(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of the cases outside a class that were kept outside."""
    counts = count(y, p, weights)
    outside = counts.cases[:, None] - counts.truth
    return counts.shown(ratio(outside - (counts.predicted - counts.right), outside))


def f1(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Harmonic mean of precision and recall: 0 for a class never chosen, nan for a class that does not occur."""
    counts = count(y, p, weights)
    return counts.shown(ratio(2 * counts.right, np.where(counts.truth > 0, counts.truth + counts.predicted, 0)))


def mcc(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Matthews correlation of truth and decision: 0 when one class is always chosen, nan when only one occurs."""
    counts = count(y, p, weights)
    n = counts.cases
    agreement = n * counts.right.sum(axis=1) - (counts.truth * counts.predicted).sum(axis=1)
    spread_truth = n**2 - (counts.truth**2).sum(axis=1)
    spread_predicted = n**2 - (counts.predicted**2).sum(axis=1)
    # The root of the product, because only that of a square is exact: flawless decisions must give 1.
    value = ratio(agreement, np.sqrt(spread_truth * spread_predicted))
    return np.clip(np.where((spread_truth > 0) & (spread_predicted == 0), 0.0, value), -1.0, 1.0)


def confusion(y_true: Any, y_pred: Any, classes: int) -> IntArray:
    """How often each class was decided as each: rows are the truth, columns the prediction."""
    if classes < 1:
        raise UserError("there must be at least one class", found=str(classes), hint="pass the number of classes")
    n = np.asarray(y_true).size
    truth = checked_truth(y_true, n=n, classes=classes)
    predicted = checked_truth(y_pred, n=n, classes=classes)
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def classification_report(y_true: Any, y_pred: Any, names: Sequence[str]) -> str:
    """The table of precision, recall and F1 by class that scikit-learn's users know."""
    from sklearn.metrics import classification_report as table

    labels = range(len(names))
    return str(table(y_true, y_pred, labels=labels, target_names=names, digits=4, zero_division=0))
