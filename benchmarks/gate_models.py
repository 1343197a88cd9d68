"""Models whose truth is known, and what they say of test cases that are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from medloop.gate.predictions import Predictions
from medloop.metrics.view import one_hot

# Two models that learned from the same cases err on much the same ones.
ALIKE = 0.8
# Of the noise in a patient's slices, the share that they have in common.
WITHIN = 0.5
NORMAL = NormalDist()

Generator = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Edition:
    """The test cases that are drawn: patients with so many slices each."""

    name: str
    positives: int
    negatives: int
    slices: int = 1


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a model truly is: its area under the curve, and the recall at which it decides."""

    auc: float = 0.95
    recall: float = 0.90


def drawn(edition: Edition, first: Model, second: Model, rng: Generator) -> tuple[Predictions, Predictions]:
    """What two models say of the same new patients."""
    patients = edition.positives + edition.negatives
    y = np.repeat((np.arange(patients) < edition.positives).astype(np.int64), edition.slices)
    groups = np.repeat(np.arange(patients), edition.slices)
    common = _noise(groups, rng)
    return tuple(_decided(model, y, groups, common, rng) for model in (first, second))  # type: ignore[return-value]


def _noise(groups: NDArray[np.int64], rng: Generator) -> NDArray[np.float64]:
    """Of variance 1, a part of it shared by the slices of a patient."""
    shared = rng.normal(size=groups.max() + 1)[groups]
    return np.asarray(np.sqrt(WITHIN) * shared + np.sqrt(1 - WITHIN) * rng.normal(size=groups.size))


def _decided(
    model: Model, y: NDArray[np.int64], groups: NDArray[np.int64], common: NDArray[np.float64], rng: Generator
) -> Predictions:
    apart = NORMAL.inv_cdf(model.auc) * np.sqrt(2)
    score = apart * y + np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * _noise(groups, rng)
    threshold = apart - NORMAL.inv_cdf(model.recall)
    # The log-odds of two normal distributions of equal spread, at the prevalence of the edition.
    share = 1 / (1 + np.exp(-(apart * (score - apart / 2) + np.log(y.mean() / (1 - y.mean())))))
    return Predictions(
        case_ids=tuple(map(str, range(y.size))),
        groups=groups,
        truth=y,
        shares=np.column_stack([1 - share, share]),
        decisions=one_hot((score >= threshold).astype(np.int64), 2),
    )
