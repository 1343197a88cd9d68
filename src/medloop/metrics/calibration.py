"""Metrics of the predicted probabilities: their distance from the outcomes, and their calibration."""

from __future__ import annotations

import numpy as np

from medloop.metrics.metric import BoolArray, one_vs_rest, ratio
from medloop.metrics.view import FloatArray, IntArray

ECE_BINS = 15
# Probabilities of exactly 0 and 1 have no log-odds, and no test set is large enough to check one in a million.
LOGIT_FLOOR = 1e-6
NEWTON_STEPS = 100
# Newton's method squares the error at each step, so after a step of 1e-6 only rounding errors remain.
NEWTON_TOLERANCE = 1e-6
MAX_STEP = 2.0
# Keeps a curvature that underflowed invertible; too small to move the maximum.
RIDGE = 1e-9


def log_loss(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the mean log loss of each draw."""
    return ratio(weights @ case_log_losses(y, p), weights.sum(axis=1))


def case_log_losses(y: IntArray, p: FloatArray) -> FloatArray:
    """Return the negative logarithm of the true class's probability, which counts as at least 2.2e-16."""
    of_truth = np.clip(p[np.arange(y.size), y], np.finfo(np.float64).eps, 1.0)
    return np.asarray(-np.log(of_truth))


def brier(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the mean squared difference between probability and outcome; with over two classes, the mean over them."""
    return one_vs_rest(_brier, y, p, weights)


def ece(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the mean gap between predicted and observed frequency in 15 bins of equal size; ties share a bin."""
    return one_vs_rest(_ece, y, p, weights)


def calibration_slope(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the slope of a logistic regression of the outcome on the log-odds; below 1 the model is over-confident."""
    return one_vs_rest(_slope, y, p, weights)


def calibration_intercept(y: IntArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the shift of the log-odds, at slope 1, that corrects the mean; above 0 the risk is underestimated."""
    return one_vs_rest(_intercept, y, p, weights)


def _brier(positive: BoolArray, share: FloatArray, weights: FloatArray) -> FloatArray:
    return ratio(weights @ (share - positive) ** 2, weights.sum(axis=1))


def _ece(positive: BoolArray, share: FloatArray, weights: FloatArray) -> FloatArray:
    order = np.argsort(share, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(share[order]) != 0))
    ordered = weights.take(order, axis=1)
    running = np.cumsum(ordered, axis=1)
    total = running[:, -1]
    if starts.size < order.size:
        running = running.take(np.append(starts[1:], order.size) - 1, axis=1)
    cuts = np.append(starts, order.size)[_equal_cuts(running)]
    gaps = np.zeros((len(weights), order.size + 1))  # the last column is the empty bin's
    np.multiply(ordered, (share - positive)[order], out=gaps[:, :-1])
    return np.clip(ratio(np.abs(_sum_between(gaps, cuts)).sum(axis=1), total), 0.0, 1.0)


def _equal_cuts(running: FloatArray) -> IntArray:
    """Return where each bin starts; a tie belongs to the bin of its middle rank, whatever the order of cases."""
    edges = running[:, -1:] * np.arange(1, ECE_BINS) / ECE_BINS
    near = np.array([np.searchsorted(row, at) for row, at in zip(running, edges, strict=True)])
    before = np.where(near > 0, np.take_along_axis(running, np.maximum(near - 1, 0), axis=1), 0.0)
    middle = (np.take_along_axis(running, near, axis=1) + before) / 2
    return np.concatenate([np.zeros((len(near), 1), int), near + (middle < edges)], axis=1)


def _sum_between(rows: FloatArray, cuts: IntArray) -> FloatArray:
    """Return the sum of each row from each cut to the next, and from the last one to the end."""
    first = cuts + np.arange(len(rows))[:, None] * rows.shape[1]
    sums = np.add.reduceat(rows.ravel(), first.ravel()).reshape(cuts.shape)
    # Between two equal cuts reduceat returns the entry itself, where the sum is empty.
    return np.where(np.diff(cuts, axis=1, append=rows.shape[1]) > 0, sums, 0.0)


def log_odds(share: FloatArray) -> FloatArray:
    """Return the logits of probabilities that are clipped to within 1e-6 of 0 and 1."""
    clipped = np.clip(share, LOGIT_FLOOR, 1 - LOGIT_FLOOR)
    return np.log(clipped / (1 - clipped))


def _slope(positive: BoolArray, share: FloatArray, weights: FloatArray) -> FloatArray:
    x = log_odds(share)
    usable = _overlap(positive, x, weights)
    if not usable.any():
        return np.full(len(weights), np.nan)
    spread = float(x.std())
    design = np.stack([np.ones_like(x), (x - x.mean()) / spread])
    return _fit_logistic(design, np.zeros_like(x), positive, weights, usable)[:, 1] / spread


def _intercept(positive: BoolArray, share: FloatArray, weights: FloatArray) -> FloatArray:
    hits = weights @ positive
    usable = (hits > 0) & (hits < weights.sum(axis=1))
    return _fit_logistic(np.ones((1, share.size)), log_odds(share), positive, weights, usable)[:, 0]


def _overlap(positive: BoolArray, x: FloatArray, weights: FloatArray) -> BoolArray:
    """Return the draws whose classes overlap in x; without overlap the likelihood has no maximum."""
    high, low = _range_of_draws(positive, x, weights), _range_of_draws(~positive, x, weights)
    return np.asarray((high[0] < low[1]) & (low[0] < high[1]))


def _range_of_draws(chosen: BoolArray, x: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the lowest and highest x of the chosen cases in each draw; (inf, -inf) where a draw has none."""
    places = np.flatnonzero(chosen)
    places = places[np.argsort(x[places], kind="stable")]
    if not places.size:
        return np.full(len(weights), np.inf), np.full(len(weights), -np.inf)
    present = weights.take(places, axis=1) > 0
    some = present.any(axis=1)
    lowest, highest = np.argmax(present, axis=1), places.size - 1 - np.argmax(present[:, ::-1], axis=1)
    ordered = x[places]
    return np.where(some, ordered[lowest], np.inf), np.where(some, ordered[highest], -np.inf)


def _fit_logistic(
    design: FloatArray, offset: FloatArray, positive: BoolArray, weights: FloatArray, usable: BoolArray
) -> FloatArray:
    """Fit a logistic regression to each usable draw, starting from the fit to all of them; NaN for the others."""
    out = np.full((len(weights), len(design)), np.nan)
    if usable.any():
        chosen = weights if usable.all() else weights[usable]
        start = _newton(design, offset, positive, chosen.sum(axis=0, keepdims=True), np.zeros((1, len(design))))
        out[usable] = _newton(design, offset, positive, chosen, np.nan_to_num(start))
    return out


def _newton(
    design: FloatArray, offset: FloatArray, positive: BoolArray, weights: FloatArray, found: FloatArray
) -> FloatArray:
    """Maximise the likelihood of every draw at once; NaN where it does not converge."""
    converged = np.zeros(len(weights), dtype=bool)
    for _ in range(NEWTON_STEPS):
        slope, curvature = _derivatives(design, offset, positive, weights, found)
        step = np.linalg.solve(curvature + RIDGE * np.eye(len(design)), slope[:, :, None])[:, :, 0]
        found = found + np.clip(step, -MAX_STEP, MAX_STEP)
        converged = np.abs(step).max(axis=1) < NEWTON_TOLERANCE
        if converged.all():
            break
    return np.where(converged[:, None], found, np.nan)


def _derivatives(
    design: FloatArray, offset: FloatArray, positive: BoolArray, weights: FloatArray, found: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the slope and curvature of the log-likelihood of each draw."""
    products = (design[:, None, :] * design[None, :, :]).reshape(-1, design.shape[1])
    # exp may overflow to infinity; 1 / (1 + infinity) is then the correct 0.
    with np.errstate(over="ignore"):
        risk = np.exp(-(found @ design + offset))
    np.reciprocal(np.add(risk, 1.0, out=risk), out=risk)
    error: FloatArray = positive - risk
    bend = np.multiply(risk, 1 - risk, out=risk)
    if len(found) == 1:  # all draws at the same point: two matrix products suffice
        slope, curvature = weights @ (error * design).T, weights @ (bend * products).T
    else:
        slope = np.multiply(error, weights, out=error) @ design.T
        curvature = np.multiply(bend, weights, out=bend) @ products.T
    return slope, curvature.reshape(-1, len(design), len(design))
