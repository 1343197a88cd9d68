"""From logits to a decision: temperature, threshold, conformal set, distance from the training cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.bundle.patients import combine_slices, slices_of
from medloop.metrics.view import softmax

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def choose(probabilities: FloatArray, is_positive: NDArray[np.bool_], threshold: float | None) -> IntArray:
    """Return the class of each case: positive where the positive share reaches the threshold, else the likeliest."""
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1))
    reached = probabilities[:, is_positive].sum(axis=1) >= threshold
    allowed = np.where(reached[:, None], is_positive, ~is_positive)
    return np.asarray(np.argmax(np.where(allowed, probabilities, -1.0), axis=1))


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """The spread of the training embeddings, and the distance that almost none of them exceeds.

    Wide embeddings have a spread along a few `directions` and the same precision, `rest`, along all others.
    """

    mean: FloatArray
    precision: FloatArray
    limit: float
    directions: FloatArray | None = None
    rest: float = 0.0

    def coordinates(self, embedding: FloatArray) -> FloatArray:
        """Return the embedding along the directions, which is short enough to store, or all of it if there are none."""
        if self.directions is None:
            return embedding
        return np.asarray((np.asarray(embedding, dtype=np.float64) - self.mean) @ self.directions)

    def distances(self, embedding: FloatArray) -> FloatArray:
        """Return the Mahalanobis distance of each case from the training cases."""
        apart = np.asarray(embedding, dtype=np.float64) - self.mean
        along = apart if self.directions is None else apart @ self.directions
        squares = np.vecdot(along @ self.precision, along)
        if self.directions is not None:
            squares += self.rest * np.maximum(np.vecdot(apart, apart) - np.vecdot(along, along), 0.0)
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The decision for each case or patient, with the reason of an abstention."""

    probabilities: FloatArray
    choices: IntArray
    sets: NDArray[np.bool_]
    reasons: list[str | None]
    members: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Decider:
    """The decision rule of a bundle, the same wherever it is used."""

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    threshold: float | None
    temperature: float
    conformal_alpha: float
    conformal: tuple[float, ...]
    outliers: Outliers
    per: str = "case"
    rule: str = "mean"
    # Whether the likeliest class stays where the quantiles rule out all; older bundles keep only the decided class.
    likeliest_stays: bool = True

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], reference: Mapping[str, Any]) -> Decider:
        """Return the rule that bundle.json and reference.npz describe."""
        if not meta["calibration"]["temperature"] > 0:
            raise ValueError("the temperature is not above 0")
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
            likeliest_stays=meta["conformal"].get("likeliest_stays", False),
        )

    @cached_property
    def is_positive(self) -> NDArray[np.bool_]:
        """Which classes are positive."""
        return np.isin(self.classes, list(self.positive))

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Calibrated probabilities."""
        return softmax(logits, self.temperature)

    def combined(self, probabilities: FloatArray, patients: Sequence[Hashable]) -> FloatArray:
        """Return one row per patient by the rule of the bundle, in the order in which they first appear."""
        return combine_slices(probabilities, patients, is_positive=self.is_positive, rule=self.rule)

    def choices(self, probabilities: FloatArray) -> IntArray:
        """Return the class of each row of probabilities."""
        return choose(probabilities, self.is_positive, self.threshold)

    def others_than(self, choice: int) -> list[int]:
        """Return the classes on the other side of the decision, positive or negative, or all others if none."""
        is_positive = self.is_positive
        other_side = [number for number, side in enumerate(is_positive) if side != is_positive[choice]]
        return other_side or [number for number in range(len(self.classes)) if number != choice]

    def conformal_sets(self, probabilities: FloatArray) -> NDArray[np.bool_]:
        """Return the classes that remain possible at the required coverage, and the decided one.

        A larger set covers the true class no less often. Where the quantiles rule out every class, the likeliest stays.
        Where the threshold decides for a class that they rule out, two remain, and the model abstains.
        """
        return self._possible(probabilities, self.choices(probabilities))

    def _possible(self, probabilities: FloatArray, choices: IntArray) -> NDArray[np.bool_]:
        sets, rows = 1 - probabilities <= self.conformal, np.arange(len(probabilities))
        if self.likeliest_stays:
            sets[rows, probabilities.argmax(axis=1)] |= ~sets.any(axis=1)
        sets[rows, choices] = True
        return np.asarray(sets)

    def answers(
        self,
        probabilities: FloatArray,
        embedding: FloatArray,
        complaints: Sequence[str | None],
        patients: Sequence[Hashable],
    ) -> Answers:
        """Return one decision per patient, in the order in which they first appear; a lone case is its own patient."""
        members = list(slices_of(patients).values())
        if len(members) < len(probabilities):
            probabilities = self.combined(probabilities, patients)
        choices, distances = self.choices(probabilities), self.outliers.distances(embedding)
        sets = self._possible(probabilities, choices)
        reasons = []
        for rows, remaining in zip(members, sets, strict=True):
            complaint = next((complaints[row] for row in rows if complaints[row]), None)
            # Among many slices some are far away by chance, so the median counts.
            far = float(distances[rows[0]] if len(rows) == 1 else np.median(distances[rows]))
            reasons.append(complaint or self.reason_to_abstain(far, remaining))
        return Answers(
            probabilities=probabilities,
            choices=choices,
            sets=sets,
            reasons=reasons,
            members=members,
        )

    def reason_to_abstain(self, distance: float, remaining: NDArray[np.bool_]) -> str | None:
        """Return why the model abstains, or None if it does not."""
        if not distance <= self.outliers.limit:
            return "far from anything seen in training"
        if np.count_nonzero(remaining) > 1:
            names = " and ".join(name for name, stays in zip(self.classes, remaining, strict=True) if stays)
            return f"too close to call: {names} remain possible at {1 - self.conformal_alpha:.0%} confidence"
        return None
