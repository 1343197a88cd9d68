"""Doubtful labels: a list for review, never a reason to change a label unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One case whose label may be wrong; the lower the `quality`, the more doubtful."""

    place: int
    given: int
    suggested: int
    quality: float


def rank_label_errors(probabilities: Any, y: Any) -> tuple[Doubt, ...]:
    """Return the likely label errors, most doubtful first, from out-of-fold probabilities."""
    shares, given = _validate(probabilities, y)
    present = np.unique(given)
    if len(present) < 2:
        return ()
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    # Cleanlab expects every class among the labels.
    shares = shares[:, present] / np.maximum(shares[:, present].sum(axis=1, keepdims=True), 1e-12)
    labels = np.searchsorted(present, given)
    issues = find_label_issues(labels, shares, filter_by="confident_learning", n_jobs=1)
    quality = get_label_quality_scores(labels, shares, method="normalized_margin", adjust_pred_probs=False)
    chosen = np.flatnonzero(issues & (shares.argmax(axis=1) != labels))
    return tuple(
        Doubt(
            place=int(place),
            given=int(given[place]),
            suggested=int(present[shares[place].argmax()]),
            quality=float(quality[place]),
        )
        for place in chosen[np.argsort(quality[chosen], kind="stable")]
    )


def _validate(probabilities: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    shares, given = np.asarray(probabilities, np.float64), np.asarray(y)
    if shares.ndim != 2 or given.shape != shares.shape[:1] or given.dtype.kind not in "iu":
        raise UserError(
            f"Probabilities of shape {shares.shape} do not fit class numbers of shape {given.shape}.",
            "Pass (N, K) probabilities and N integer class numbers.",
        )
    if given.size and not 0 <= given.min() <= given.max() < shares.shape[1]:
        raise UserError(
            f"The class numbers range from {given.min()} to {given.max()}, but there are {shares.shape[1]} columns of "
            "probabilities.",
            "Pass one column of probabilities for each class.",
        )
    return shares, given.astype(np.int64)
