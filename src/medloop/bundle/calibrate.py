"""Fitting what decides - temperature, threshold, conformal quantiles, outlier limit - on held-out training cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medloop.bundle.decide import FloatArray, IntArray, Outliers, softmax
from medloop.bundle.patients import combine_slices, sickest, slices_of
from medloop.errors import UserError
from medloop.recipe.sections import THRESHOLD_RULE, ExportSection

SMALLEST = 1e-7
OUTLIER_FOLDS = 5
LEAST_SHRINKAGE = 1e-3
MOST_DIRECTIONS = 64
CASES_A_DIRECTION = 4


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What decides, in the words of bundle.json; the cases' probabilities, and the classes of what is decided."""

    meta: dict[str, Any]
    probabilities: FloatArray
    y: IntArray


def fit_decision(
    logits: FloatArray,
    y: IntArray,
    section: ExportSection,
    task: Mapping[str, Any],
    *,
    fitted_on: str,
    patients: Sequence[Hashable] | None = None,
) -> Fitted:
    """Temperature, threshold and conformal quantiles; where patients are given, these decide and not their slices."""
    temperature = fit_temperature(logits, y) if section.calibrate else 1.0
    probabilities = decided = softmax(logits, temperature)
    is_positive = np.isin(task["classes"], task["positive"])
    if patients is not None:
        decided = combine_slices(probabilities, patients, is_positive=is_positive, rule=section.combine)
        y = np.array([sickest(y[rows], is_positive) for rows in slices_of(patients).values()])
    threshold = None
    if task["positive"]:
        share = positive_share(decided, task["classes"], task["positive"])
        threshold = choose_threshold(section.threshold, is_positive[y].astype(int), share)
    meta = {
        "calibration": {"temperature": temperature, "fitted_on": fitted_on, "n": len(logits)},
        "threshold": {"value": threshold, "rule": section.threshold if task["positive"] else "the likeliest class"},
        "conformal": {
            "alpha": section.conformal_alpha,
            "quantiles": conformal_quantiles(decided, y, alpha=section.conformal_alpha),
        },
    }
    return Fitted(meta=meta, probabilities=probabilities, y=y)


def log_probabilities(probabilities: FloatArray) -> FloatArray:
    """Logits for a model that gives probabilities; the ONNX graph does the same."""
    return np.log(np.clip(probabilities, SMALLEST, 1.0))


def fit_temperature(logits: FloatArray, y: IntArray) -> float:
    """The temperature at which the held-out cases are likeliest."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.clip(probabilities[np.arange(len(y)), y], 1e-12, 1.0)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def choose_threshold(rule: str, is_positive: IntArray, share: FloatArray) -> float:
    """The threshold on the positive share that the recipe's rule asks for."""
    match = THRESHOLD_RULE.fullmatch(rule)
    if match is None:
        raise UserError("export.threshold must be a rule", found=rule, hint="write `sensitivity >= 0.95`")
    if match["figure"] == "probability":
        return float(match["value"])
    candidates = np.unique(np.concatenate([share, [1.0]]))
    caught = np.array([np.mean(share[is_positive == 1] >= cut) for cut in candidates])
    spared = np.array([np.mean(share[is_positive == 0] < cut) for cut in candidates])
    if match["figure"] is None:
        return _between(share, float(candidates[np.argmax(caught + spared)]))
    if match["figure"] == "sensitivity":
        return _between(share, float(candidates[caught >= float(match["value"])].max(initial=candidates[0])))
    return _between(share, float(candidates[spared >= float(match["value"])].min(initial=1.0)))


def _between(share: FloatArray, cut: float) -> float:
    """Halfway to the next lower case, so that the last digit of the chosen one does not decide."""
    below = share[share < cut]
    return float((cut + below.max()) / 2) if len(below) else cut


def conformal_quantiles(probabilities: FloatArray, y: IntArray, *, alpha: float) -> list[float]:
    """By class, the largest nonconformity (one less the probability) that a case of it may have."""
    quantiles = []
    for label in range(probabilities.shape[1]):
        scores = np.sort(1 - probabilities[y == label, label])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        quantiles.append(float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return quantiles


def fit_outliers(embedding: FloatArray, *, quantile: float, seed: int) -> Outliers:
    """The spread of the embeddings; the limit comes from cases that their own spread did not see."""
    held_out = np.empty(len(embedding))
    fold = np.random.default_rng(seed).permutation(len(embedding)) % OUTLIER_FOLDS
    for number in range(OUTLIER_FOLDS):
        mean, precision = _spread(embedding[fold != number])
        held_out[fold == number] = Outliers(mean=mean, precision=precision, limit=0).distances(
            embedding[fold == number]
        )
    mean, precision = _spread(embedding)
    return Outliers(mean=mean, precision=precision, limit=float(np.quantile(held_out, quantile)))


def fit_wide_outliers(seen: FloatArray, unseen: FloatArray, *, quantile: float, seed: int) -> Outliers:
    """The spread of wide embeddings along few directions; the limit comes from cases that it did not see."""
    fold = np.random.default_rng(seed).permutation(len(seen)) % OUTLIER_FOLDS
    held_out = np.concatenate(
        [_wide_spread(seen[fold != one]).distances(seen[fold == one]) for one in range(OUTLIER_FOLDS)]
    )
    spread = _wide_spread(seen)
    # A network lies closer around what it learned from than around its like.
    limit = max(np.quantile(held_out, quantile), np.quantile(spread.distances(unseen), quantile))
    return replace(spread, limit=float(limit))


def _wide_spread(embedding: FloatArray) -> Outliers:
    """Principal components and, for what lies beside them, one variance: a Gaussian that few cases suffice for."""
    from scipy.linalg import eigh

    values = np.asarray(embedding, dtype=np.float64)
    cases, width = values.shape
    most = max(1, min(MOST_DIRECTIONS, cases // CASES_A_DIRECTION, width - 1))
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    variance, directions = eigh(covariance, subset_by_index=[width - most, width - 1])
    beside = max((float(np.trace(covariance)) - float(variance.sum())) / max(width - most, 1), 1e-12)
    return Outliers(
        mean=values.mean(axis=0),
        precision=np.diag(1 / np.maximum(variance, beside)),
        limit=0.0,
        directions=directions.astype(np.float32),
        rest=1 / beside,
    )


def _spread(embedding: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and inverse covariance, shrunk towards the diagonal so that it always has an inverse."""
    values = np.asarray(embedding, dtype=np.float64)
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    variance = np.maximum(np.diag(covariance), 1e-12)
    shrink = max(LEAST_SHRINKAGE, min(1.0, values.shape[1] / len(values)))
    shrunk = (1 - shrink) * covariance + shrink * np.diag(variance)
    return values.mean(axis=0), np.linalg.inv(shrunk)


def sample(length: int, *, most: int, seed: int) -> IntArray:
    """Indices of a reproducible sample."""
    return np.sort(np.random.default_rng(seed).permutation(length)[:most])


def positive_share(probabilities: FloatArray, classes: Sequence[str], positive: Sequence[str]) -> FloatArray:
    """The probability of all positive classes together."""
    return np.asarray(probabilities[:, np.isin(classes, list(positive))].sum(axis=1))
