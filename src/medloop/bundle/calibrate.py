"""Fits temperature, threshold, conformal quantiles and outlier limit on held-out training cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medloop.bundle.decide import FloatArray, IntArray, Outliers
from medloop.bundle.operating_point import choose_threshold, threshold_facts
from medloop.bundle.patients import combine_slices, sickest, slices_of
from medloop.metrics.calibration import case_log_losses
from medloop.metrics.view import softmax
from medloop.recipe.sections import ExportSection

MIN_PROBABILITY = 1e-7
OUTLIER_FOLDS = 5
MIN_SHRINKAGE = 1e-3
MAX_DIRECTIONS = 64
CASES_PER_DIRECTION = 4


@dataclass(frozen=True, kw_only=True)
class Source:
    """The cases that decisions are fitted on, and what else these cases were used for."""

    fitted_on: str
    # out_of_fold: scored by models that were not trained on them; calib, val, fold: a part that was held out.
    method: str
    folds: int | None = None
    also_chose: tuple[str, ...] = ()
    refitted: bool = False


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The fitted rule as in bundle.json, the probabilities of the cases, and the classes of what is decided."""

    meta: dict[str, Any]
    probabilities: FloatArray
    y: IntArray


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The units of the decision, cases or patients; `groups` identifies those that are not independent."""

    probabilities: FloatArray
    y: IntArray
    groups: list[Hashable]

    def share(self, task: Mapping[str, Any]) -> FloatArray:
        """Return the total probability of the positive classes."""
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
    """Fit temperature, threshold and conformal quantiles, on patients where the bundle decides per patient."""
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
    """Return the temperature, the units of the decision, and the threshold (None for the likeliest class)."""
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
    """Return the cases, or one row per patient where the recipe decides per patient."""
    if section.per != "patient":
        return Decided(probabilities=probabilities, y=y, groups=list(groups))
    is_positive, members = np.isin(task["classes"], task["positive"]), slices_of(groups)
    return Decided(
        probabilities=combine_slices(probabilities, groups, is_positive=is_positive, rule=section.combine),
        y=np.array([sickest(y[rows], is_positive) for rows in members.values()]),
        groups=list(members),
    )


def class_counts(y: IntArray, groups: Sequence[Hashable], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the numbers of cases and patients of each class."""
    numbers = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    return {
        str(name): {"cases": int((y == label).sum()), "patients": len(set(numbers[y == label].tolist()))}
        for label, name in enumerate(classes)
    }


def log_probabilities(probabilities: FloatArray) -> FloatArray:
    """Return logits for a model that predicts probabilities; the ONNX graph does the same."""
    return np.log(np.clip(probabilities, MIN_PROBABILITY, 1.0))


def fit_temperature(logits: FloatArray, y: IntArray) -> float:
    """Return the temperature that maximises the likelihood of the held-out cases."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        return float(case_log_losses(y, probabilities).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def min_patients(alpha: float) -> int:
    """Return how many patients a class needs for a conformal quantile of its own; with fewer it is never ruled out."""
    return int(np.ceil(1 / alpha - 1e-9)) - 1


def conformal_quantiles(
    probabilities: FloatArray, y: IntArray, *, alpha: float, groups: Sequence[Hashable] | None = None
) -> list[float]:
    """Return for each class the largest nonconformity (1 - probability) that a case of it may have.

    Each patient counts once, however many cases it has (hierarchical conformal prediction). Classes of too few patients
    use the quantile over all classes, or their own largest score where it is larger.
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
    """Return the score at the rank (patients + 1) * (1 - alpha), where the cases of a patient share one rank."""
    counts = np.bincount(patients)
    number = int(np.count_nonzero(counts))
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / counts[patients[order]])
    rank = int(np.searchsorted(reached, (number + 1) * (1 - alpha) - 1e-9))
    return float(scores[order[rank]]) if rank < len(scores) else 1.0


def conformal_facts(decided: Decided, classes: Sequence[str], *, alpha: float) -> dict[str, Any]:
    """Return the numbers of cases and patients behind each quantile, and the classes without one of their own."""
    counts = class_counts(decided.y, decided.groups, classes)
    pooled = [name for name, found in counts.items() if found["patients"] < min_patients(alpha)]
    return {
        "counted": "patients" if len(set(decided.groups)) < len(decided.groups) else "cases",
        "by_class": {name: {**found, "pooled": name in pooled} for name, found in counts.items()},
        "pooled": pooled,
    }


def fit_outliers(embedding: FloatArray, *, quantile: float, seed: int) -> Outliers:
    """Return the spread of the embeddings, with a limit from out-of-fold distances."""
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
    """Return the spread of wide embeddings along a few directions, with a limit from held-out distances."""
    fold = np.random.default_rng(seed).permutation(len(seen)) % OUTLIER_FOLDS
    held_out = np.concatenate(
        [_wide_spread(seen[fold != one]).distances(seen[fold == one]) for one in range(OUTLIER_FOLDS)]
    )
    spread = _wide_spread(seen)
    # The embeddings of training cases are closer to each other than to those of new cases.
    limit = max(np.quantile(held_out, quantile), np.quantile(spread.distances(unseen), quantile))
    return replace(spread, limit=float(limit))


def _wide_spread(embedding: FloatArray) -> Outliers:
    """Return principal components and one variance for all other directions: a Gaussian that needs few cases."""
    from scipy.linalg import eigh

    values = np.asarray(embedding, dtype=np.float64)
    cases, width = values.shape
    count = max(1, min(MAX_DIRECTIONS, cases // CASES_PER_DIRECTION, width - 1))
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    variance, directions = eigh(covariance, subset_by_index=[width - count, width - 1])
    residual = max((float(np.trace(covariance)) - float(variance.sum())) / max(width - count, 1), 1e-12)
    return Outliers(
        mean=values.mean(axis=0),
        precision=np.diag(1 / np.maximum(variance, residual)),
        limit=0.0,
        directions=directions.astype(np.float32),
        rest=1 / residual,
    )


def _spread(embedding: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and inverse covariance, shrunk towards the diagonal so that the inverse exists."""
    values = np.asarray(embedding, dtype=np.float64)
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    variance = np.maximum(np.diag(covariance), 1e-12)
    shrink = max(MIN_SHRINKAGE, min(1.0, values.shape[1] / len(values)))
    shrunk = (1 - shrink) * covariance + shrink * np.diag(variance)
    return values.mean(axis=0), np.linalg.inv(shrunk)


def sample(length: int, *, size: int, seed: int) -> IntArray:
    """Return sorted indices of a reproducible sample of at most this size."""
    return np.sort(np.random.default_rng(seed).permutation(length)[:size])


def positive_share(probabilities: FloatArray, classes: Sequence[str], positive: Sequence[str]) -> FloatArray:
    """Return the total probability of the positive classes."""
    return np.asarray(probabilities[:, np.isin(classes, list(positive))].sum(axis=1))
