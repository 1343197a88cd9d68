"""Predictive values at a prevalence, decision curves, risk against coverage, and the points of ROC and PR curves."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.metrics.metric import checked_binary
from medloop.metrics.view import FloatArray


@dataclass(frozen=True)
class NetBenefit:
    """True positives less weighted false positives, per case, at each threshold; treating nobody is 0."""

    threshold: FloatArray
    model: FloatArray
    treat_all: FloatArray


@dataclass(frozen=True)
class RiskCoverage:
    """The share of wrong decisions among the cases whose confidence reaches each level."""

    confidence: FloatArray
    coverage: FloatArray
    risk: FloatArray


def ppv_at_prevalence(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Return the positive predictive value at a prevalence."""
    _check_shares(sensitivity=sensitivity, specificity=specificity, prevalence=prevalence)
    right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return right / (right + wrong) if right + wrong > 0 else nan


def npv_at_prevalence(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Return the negative predictive value at a prevalence."""
    return ppv_at_prevalence(specificity, sensitivity, 1 - prevalence)


def net_benefit(y_true: Any, score: Any, thresholds: Any) -> NetBenefit:
    """Return the decision curve of the probability of the positive class; a case is treated from the threshold on."""
    positive, p = checked_binary(y_true, score)
    at = np.asarray(thresholds, dtype=np.float64)
    if at.ndim != 1 or not ((at >= 0) & (at < 1)).all() or ((p < 0) | (p > 1)).any():
        raise UserError(
            "A decision curve needs thresholds from 0 to below 1 and probabilities from 0 to 1.",
            "Pass the probabilities of the positive class, not logits.",
        )
    if not p.size:
        return NetBenefit(at, np.full(at.shape, nan), np.full(at.shape, nan))
    price, share = at / (1 - at), positive.mean()
    hits, alarms = _share_from(p[positive], at, of=p.size), _share_from(p[~positive], at, of=p.size)
    return NetBenefit(at, hits - alarms * price, share - (1 - share) * price)


def net_benefit_of_cases(y_true: Any, score: Any, thresholds: Any) -> FloatArray:
    """Return the contribution of each case at each threshold; the mean over the cases is the net benefit."""
    positive, p = checked_binary(y_true, score)
    at = np.asarray(thresholds, dtype=np.float64)
    treated = p[:, None] >= at[None, :]
    return np.asarray(treated * np.where(positive[:, None], 1.0, -(at / (1 - at))[None, :]))


def risk_coverage(wrong: Any, confidence: Any) -> RiskCoverage:
    """Return the curve from the most confident cases to all of them; cases of equal confidence enter together."""
    errors, sure = np.asarray(wrong, dtype=bool), np.asarray(confidence, dtype=np.float64)
    if errors.shape != sure.shape or sure.ndim != 1 or not np.isfinite(sure).all():
        raise UserError(
            f"The confidences have shape {sure.shape} for {errors.size} cases, or contain NaN.",
            "Pass one number for each case.",
        )
    order = np.argsort(-sure, kind="stable")
    ordered = sure[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True)) if sure.size else np.zeros(0, dtype=np.int64)
    included = ends + 1
    return RiskCoverage(ordered[ends], included / max(sure.size, 1), np.cumsum(errors[order])[ends] / included)


def _share_from(scores: FloatArray, at: FloatArray, *, of: int) -> FloatArray:
    return np.asarray((scores.size - np.searchsorted(np.sort(scores), at, side="left")) / of)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"The {name} is {share}, not from 0 to 1.", "Pass a fraction, not a percentage.")


def roc_points(truth: Any, score: Any) -> tuple[FloatArray, FloatArray]:
    """Return the false and true positive rates at every threshold that changes a decision."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(truth, score)
    return false, true


def precision_recall_points(truth: Any, score: Any) -> tuple[FloatArray, FloatArray]:
    """Return precision and recall at every threshold that changes a decision."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, score)
    return precision, recall
