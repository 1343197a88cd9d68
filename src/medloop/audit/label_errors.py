"""Labels that a model doubts: a list to be read again, never a reason to change a label unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One case whose label may be wrong; `quality` is the least for the most doubtful."""

    place: int
    given: int
    suggested: int
    quality: float


def rank_label_errors(probabilities: Any, y: Any) -> tuple[Doubt, ...]:
    """The likely label errors, the most doubtful first; every probability from a model that had not seen its case."""
    shares, given = _checked(probabilities, y)
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


def _checked(probabilities: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    shares, given = np.asarray(probabilities, np.float64), np.asarray(y)
    if shares.ndim != 2 or given.shape != shares.shape[:1] or given.dtype.kind not in "iu":
        raise UserError(
            "label errors need one row of probabilities and one class number a case",
            found=f"shapes {shares.shape} and {given.shape}",
            hint="pass (N, K) probabilities and N class numbers",
        )
    if given.size and not 0 <= given.min() <= given.max() < shares.shape[1]:
        raise UserError(
            f"a class number must be from 0 to {shares.shape[1] - 1}",
            found=f"{given.min()} to {given.max()}",
            hint="pass one column of probabilities for each class",
        )
    return shares, given.astype(np.int64)
