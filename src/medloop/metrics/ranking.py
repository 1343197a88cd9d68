"""Metrics of the ranking: areas under curves, and operating points. Tied scores share one threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medloop.metrics.metric import Binary, BoolArray, one_vs_rest, ratio
from medloop.metrics.view import FloatArray, IntArray


def roc_auc(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the probability that a positive case scores above a negative one; a tie counts half."""
    return one_vs_rest(_roc_auc, y, p, weights)


def pr_auc(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the average precision: the precision at each threshold, weighted by the gain in recall."""
    return one_vs_rest(_average_precision, y, p, weights)


def sensitivity_at_90_specificity(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the highest sensitivity of a threshold with a specificity of at least 0.90."""
    return one_vs_rest(_SENSITIVITY_AT_90, y, p, weights)


def sensitivity_at_95_specificity(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the highest sensitivity of a threshold with a specificity of at least 0.95."""
    return one_vs_rest(_SENSITIVITY_AT_95, y, p, weights)


def specificity_at_90_sensitivity(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the highest specificity of a threshold with a sensitivity of at least 0.90."""
    return one_vs_rest(_SPECIFICITY_AT_90, y, p, weights)


def specificity_at_95_sensitivity(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the highest specificity of a threshold with a sensitivity of at least 0.95."""
    return one_vs_rest(_SPECIFICITY_AT_95, y, p, weights)


@dataclass(frozen=True)
class Side:
    """The cases of one class from the highest score to the lowest, with the running sum of their weights."""

    score: FloatArray
    weights: FloatArray
    total: FloatArray
    running: FloatArray

    def above(self, score: FloatArray) -> IntArray:
        """Return how many of them score higher than each of the scores."""
        return np.searchsorted(-self.score, -score, side="left")

    def reached(self, score: FloatArray) -> IntArray:
        """Return how many of them score at least as high as each of the scores."""
        return np.searchsorted(-self.score, -score, side="right")


def sides(positive: BoolArray, score: FloatArray, weights: FloatArray) -> tuple[Side, Side]:
    """Return the positive and the negative cases in order; `running[:, i]` is the weight of the first i of them."""
    return _side(positive, score, weights), _side(~positive, score, weights)


def _side(chosen: BoolArray, score: FloatArray, weights: FloatArray) -> Side:
    places = np.flatnonzero(chosen)
    places = places[np.argsort(-score[places], kind="stable")]
    ordered = weights.take(places, axis=1)
    running = np.zeros((len(weights), places.size + 1))
    np.cumsum(ordered, axis=1, out=running[:, 1:])
    return Side(score[places], ordered, running[:, -1], running)


def _roc_auc(positive: BoolArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    high, low = sides(positive, score, weights)
    # Wins are counted twice, so that half a win for a tie leaves the sum an exact integer.
    wins = _dot(low.weights, high.running.take(high.above(low.score), axis=1))
    wins_or_ties = _dot(low.weights, high.running.take(high.reached(low.score), axis=1))
    return ratio(wins + wins_or_ties, 2 * high.total * low.total)


def _average_precision(positive: BoolArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    high, low = sides(positive, score, weights)
    hits = high.running.take(high.reached(high.score), axis=1)
    alarms = low.running.take(low.reached(high.score), axis=1)
    seen = np.maximum(np.add(hits, alarms, out=alarms), 1.0, out=alarms)
    area = _dot(high.weights, np.divide(hits, seen, out=seen))
    return np.clip(ratio(area, high.total), 0.0, 1.0)


def _sensitivity_at(percent: int) -> Binary:
    def highest(positive: BoolArray, score: FloatArray, weights: FloatArray) -> FloatArray:
        high, low = sides(positive, score, weights)
        if not low.score.size:
            return np.full(len(weights), np.nan)
        # In integers: 1 - 0.9 of ten cases must allow exactly one false alarm.
        allowed = (100 - percent) * low.total // 100
        first_refused = _first_true(low.running[:, 1:] > allowed[:, None])
        hits = _pick(high.running, high.above(low.score)[first_refused])
        return ratio(hits, np.where(low.total > 0, high.total, 0.0))

    return highest


def _specificity_at(percent: int) -> Binary:
    def highest(positive: BoolArray, score: FloatArray, weights: FloatArray) -> FloatArray:
        high, low = sides(positive, score, weights)
        if not high.score.size:
            return np.full(len(weights), np.nan)
        needed = -(-percent * high.total // 100)
        last_needed = _first_true(high.running[:, 1:] >= needed[:, None])
        alarms = _pick(low.running, low.reached(high.score)[last_needed])
        return ratio(low.total - alarms, np.where(high.total > 0, low.total, 0.0))

    return highest


def _dot(left: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("dn,dn->d", left, right))


def _first_true(rows: BoolArray) -> IntArray:
    return np.asarray(np.argmax(rows, axis=1), dtype=np.int64)


def _pick(rows: FloatArray, column: IntArray) -> FloatArray:
    return rows[np.arange(len(rows)), column]


_SENSITIVITY_AT_90, _SENSITIVITY_AT_95 = _sensitivity_at(90), _sensitivity_at(95)
_SPECIFICITY_AT_90, _SPECIFICITY_AT_95 = _specificity_at(90), _specificity_at(95)
