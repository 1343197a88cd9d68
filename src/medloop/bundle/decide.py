"""How logits become an answer: temperature, threshold, conformal set, distance from what was learned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.bundle.patients import combine_slices

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Probabilities at a temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def choose(probabilities: FloatArray, is_positive: NDArray[np.bool_], threshold: float | None) -> IntArray:
    """The class of each case: positive where the positive share reaches the threshold, else the likeliest."""
    if threshold is None:
        return np.asarray(np.argmax(probabilities, axis=1))
    reached = probabilities[:, is_positive].sum(axis=1) >= threshold
    allowed = np.where(reached[:, None], is_positive, ~is_positive)
    return np.asarray(np.argmax(np.where(allowed, probabilities, -1.0), axis=1))


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """The spread of the training embeddings and the distance that almost none of them exceeds.

    Wide embeddings have a spread along a few `directions` and the same precision, `rest`, along all others.
    """

    mean: FloatArray
    precision: FloatArray
    limit: float
    directions: FloatArray | None = None
    rest: float = 0.0

    def coordinates(self, embedding: FloatArray) -> FloatArray:
        """The embedding along the directions, which is short enough to keep and to compare; else all of it."""
        if self.directions is None:
            return embedding
        return np.asarray((np.asarray(embedding, dtype=np.float64) - self.mean) @ self.directions)

    def distances(self, embedding: FloatArray) -> FloatArray:
        """Mahalanobis distance of each case from the training cases."""
        apart = np.asarray(embedding, dtype=np.float64) - self.mean
        along = apart if self.directions is None else apart @ self.directions
        squares = np.einsum("nd,de,ne->n", along, self.precision, along)
        if self.directions is not None:
            squares += self.rest * np.maximum((apart**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


@dataclass(frozen=True, kw_only=True)
class Decider:
    """The bundle's rule for deciding, the same wherever it is used."""

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    threshold: float | None
    temperature: float
    conformal_alpha: float
    conformal: tuple[float, ...]
    outliers: Outliers
    per: str = "case"
    rule: str = "mean"

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], reference: Mapping[str, Any]) -> Decider:
        """The decider that bundle.json and reference.npz describe."""
        if not meta["calibration"]["temperature"] > 0:
            raise ValueError("a temperature must be above 0")
        return cls(
            classes=tuple(meta["classes"]),
            positive=tuple(meta["positive"]),
            threshold=meta["threshold"]["value"],
            temperature=meta["calibration"]["temperature"],
            conformal_alpha=meta["conformal"]["alpha"],
            conformal=tuple(meta["conformal"]["quantiles"]),
            outliers=Outliers(
                mean=reference["mean"],
                precision=reference["precision"],
                limit=meta["outliers"]["limit"],
                directions=reference.get("directions"),
                rest=meta["outliers"].get("rest", 0.0),
            ),
            per=meta["decide"]["per"],
            rule=meta["decide"].get("rule", "mean"),
        )

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Calibrated probabilities."""
        return softmax(logits, self.temperature)

    def combined(self, probabilities: FloatArray, patients: Sequence[Hashable]) -> FloatArray:
        """One row a patient by the bundle's rule, in the order in which they first appear."""
        is_positive = np.isin(self.classes, list(self.positive))
        return combine_slices(probabilities, patients, is_positive=is_positive, rule=self.rule)

    def choices(self, probabilities: FloatArray) -> IntArray:
        """The class of each row of probabilities."""
        return choose(probabilities, np.isin(self.classes, list(self.positive)), self.threshold)

    def conformal_sets(self, probabilities: FloatArray) -> NDArray[np.bool_]:
        """The classes that remain possible at the wanted coverage; the likeliest is always among them."""
        likeliest = np.eye(len(self.classes), dtype=bool)[np.argmax(probabilities, axis=1)]
        return np.asarray((1 - probabilities <= np.array(self.conformal)) | likeliest)

    def reason_to_abstain(self, distance: float, remaining: NDArray[np.bool_]) -> str | None:
        """Why no class is given, in words; None where one is."""
        if not distance <= self.outliers.limit:
            return "far from anything seen in training"
        if remaining.sum() > 1:
            names = " and ".join(name for name, stays in zip(self.classes, remaining, strict=True) if stays)
            return f"too close to call: {names} remain possible at {1 - self.conformal_alpha:.0%} confidence"
        return None
