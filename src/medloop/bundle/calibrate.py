"""Fitting what decides - temperature, threshold, conformal quantiles, outlier limit - on held-out training cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medloop.bundle.decide import FloatArray, IntArray, Outliers, softmax
from medloop.bundle.operating_point import choose_threshold, threshold_facts
from medloop.bundle.patients import combine_slices, sickest, slices_of
from medloop.recipe.sections import ExportSection

SMALLEST = 1e-7
OUTLIER_FOLDS = 5
LEAST_SHRINKAGE = 1e-3
MOST_DIRECTIONS = 64
CASES_A_DIRECTION = 4


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which cases decisions are fitted on, and what else these cases did."""

    fitted_on: str
    # out_of_fold: scored by models that did not learn from them; calib, val, fold: a part that the model left out.
    method: str
    folds: int | None = None
    also_chose: tuple[str, ...] = ()
    refitted: bool = False


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What decides, in the words of bundle.json; the cases' probabilities, and the classes of what is decided."""

    meta: dict[str, Any]
    probabilities: FloatArray
    y: IntArray


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a rule decides about: cases, or patients; `groups` names those that are not independent."""

    probabilities: FloatArray
    y: IntArray
    groups: list[Hashable]

    def share(self, task: Mapping[str, Any]) -> FloatArray:
        """The probability of all positive classes together."""
        return positive_share(self.probabilities, task["classes"], task["positive"])


def fit_decision(
    logits: FloatArray,
    y: IntArray,
    section: ExportSection,
    task: Mapping[str, Any],
    *,
    source: Source,
    groups: Sequence[Hashable] | None = None,
) -> Fitted:
    """Temperature, threshold and conformal quantiles; where patients are decided, these count and not their slices."""
    groups = list(range(len(y)) if groups is None else groups)
    temperature, decided, threshold = fit_rule(logits, y, section, task, groups=groups)
    alpha = section.conformal_alpha
    meta = {
        "calibration": {
            "temperature": temperature,
            "fitted_on": source.fitted_on,
            "n": len(logits),
            "patients": len(set(groups)),
            "by_class": class_counts(y, groups, task["classes"]),
            "method": source.method,
            "folds": source.folds,
            "also_chose": list(source.also_chose),
            "refitted": source.refitted,
            "exact": not source.refitted and not source.also_chose,
        },
        "threshold": {"value": None, "rule": "the likeliest class"},
        "conformal": {
            "alpha": alpha,
            "quantiles": conformal_quantiles(decided.probabilities, decided.y, alpha=alpha, groups=decided.groups),
            "likeliest_stays": True,
            **conformal_facts(decided, task["classes"], alpha=alpha),
        },
    }
    if threshold is not None:
        is_positive = np.isin(task["classes"], task["positive"])[decided.y]
        facts = threshold_facts(section.threshold, threshold, is_positive, decided.share(task), decided.groups)
        meta["threshold"] = {"value": threshold, "rule": section.threshold, **facts}
    return Fitted(meta=meta, probabilities=softmax(logits, temperature), y=decided.y)


def fit_rule(
    logits: FloatArray, y: IntArray, section: ExportSection, task: Mapping[str, Any], *, groups: Sequence[Hashable]
) -> tuple[float, Decided, float | None]:
    """The temperature, what is decided at it, and the threshold; None where the likeliest class is taken."""
    temperature = fit_temperature(logits, y) if section.calibrate else 1.0
    decided = to_decide(softmax(logits, temperature), y, section, task, groups=groups)
    if not task["positive"]:
        return temperature, decided, None
    is_positive = np.isin(task["classes"], task["positive"])[decided.y]
    threshold = choose_threshold(section.threshold, is_positive, decided.share(task), decided.groups)
    return temperature, decided, threshold


def to_decide(
    probabilities: FloatArray,
    y: IntArray,
    section: ExportSection,
    task: Mapping[str, Any],
    *,
    groups: Sequence[Hashable],
) -> Decided:
    """The cases as they are, or one row a patient where the recipe decides by patient."""
    if section.per != "patient":
        return Decided(probabilities=probabilities, y=y, groups=list(groups))
    is_positive, members = np.isin(task["classes"], task["positive"]), slices_of(groups)
    return Decided(
        probabilities=combine_slices(probabilities, groups, is_positive=is_positive, rule=section.combine),
        y=np.array([sickest(y[rows], is_positive) for rows in members.values()]),
        groups=list(members),
    )


def class_counts(y: IntArray, groups: Sequence[Hashable], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """By class, the cases and the patients that they come from."""
    numbers = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    return {
        str(name): {"cases": int((y == label).sum()), "patients": len(set(numbers[y == label].tolist()))}
        for label, name in enumerate(classes)
    }


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


def min_patients(alpha: float) -> int:
    """How many patients of a class give it a conformal quantile of its own; with fewer it could never be ruled out."""
    return int(np.ceil(1 / alpha - 1e-9)) - 1


def conformal_quantiles(
    probabilities: FloatArray, y: IntArray, *, alpha: float, groups: Sequence[Hashable] | None = None
) -> list[float]:
    """By class, the largest nonconformity (one less the probability) that a case of it may have.

    A patient counts once, however many cases it has (hierarchical conformal prediction). Classes of too few patients
    share the quantile over all classes, or have that of their own largest score where it is larger.
    """
    numbers = np.unique(np.asarray(range(len(y)) if groups is None else groups).astype(str), return_inverse=True)[1]
    scores = 1 - probabilities[np.arange(len(y)), y]
    quantiles = []
    for label in range(probabilities.shape[1]):
        own = y == label
        if len(set(numbers[own].tolist())) >= min_patients(alpha):
            quantiles.append(_quantile(scores[own], numbers[own], alpha))
        else:
            quantiles.append(max(_quantile(scores, numbers, alpha), float(scores[own].max(initial=0.0))))
    return quantiles


def _quantile(scores: FloatArray, patients: IntArray, alpha: float) -> float:
    """The score at the rank (patients + 1) * (1 - alpha), each patient's cases having one rank between them."""
    counts = np.bincount(patients)
    number = int(np.count_nonzero(counts))
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / counts[patients[order]])
    rank = int(np.searchsorted(reached, (number + 1) * (1 - alpha) - 1e-9))
    return float(scores[order[rank]]) if rank < len(scores) else 1.0


def conformal_facts(decided: Decided, classes: Sequence[str], *, alpha: float) -> dict[str, Any]:
    """How many stand behind each quantile, and which classes have none of their own."""
    counts = class_counts(decided.y, decided.groups, classes)
    pooled = [name for name, found in counts.items() if found["patients"] < min_patients(alpha)]
    return {
        "counted": "patients" if len(set(decided.groups)) < len(decided.groups) else "cases",
        "by_class": {name: {**found, "pooled": name in pooled} for name, found in counts.items()},
        "pooled": pooled,
    }


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
