"""Combination of several images of one patient into one prediction, by the rule of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from medloop.decode.dicom.tags import keyed_hash

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]


def pseudonym(patient: str | None, key: bytes) -> str | None:
    """Return the keyed hash of a patient, the same as that of a DICOM header with this patient."""
    return keyed_hash(patient or "", key)


def combine_slices(
    probabilities: FloatArray, patients: Sequence[Hashable], *, is_positive: Mask, rule: str
) -> FloatArray:
    """Return one row of probabilities per patient, in the order in which they first appear."""
    members = slices_of(patients)
    return np.array([COMBINE[rule](probabilities[rows], is_positive) for rows in members.values()])


def slices_of(patients: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Return the indices of each patient's slices, in the order in which the patients first appear."""
    members: dict[Hashable, list[int]] = {}
    for number, patient in enumerate(patients):
        members.setdefault(patient, []).append(number)
    return members


def sickest(labels: IntArray, is_positive: Mask) -> int:
    """Return the class of a patient: the most frequent one of the slices, among the positive ones if there are any."""
    positive = labels[is_positive[labels]]
    return int(np.bincount(positive if len(positive) else labels).argmax())


def _mean(slices: FloatArray, is_positive: Mask) -> FloatArray:  # noqa: ARG001 - the same for every rule
    return np.asarray(slices.mean(axis=0))


def _max(slices: FloatArray, is_positive: Mask) -> FloatArray:
    """Return the slice with the highest positive probability."""
    if is_positive.any():
        return np.asarray(slices[np.argmax(slices[:, is_positive].sum(axis=1))])
    return _normalise(slices.max(axis=0))


def _noisy_or(slices: FloatArray, is_positive: Mask) -> FloatArray:
    """Return the probability that at least one slice is positive, if slices were independent."""
    if not is_positive.any():
        return _normalise(1 - np.prod(1 - slices, axis=0))
    mean = slices.mean(axis=0)
    found = 1 - np.prod(1 - np.clip(slices[:, is_positive].sum(axis=1), 0.0, 1.0))
    combined: FloatArray = np.empty_like(mean)
    combined[is_positive] = found * _normalise(mean[is_positive])
    combined[~is_positive] = (1 - found) * _normalise(mean[~is_positive])
    return combined


def _normalise(values: FloatArray) -> FloatArray:
    return np.asarray(values / max(float(values.sum()), 1e-300), dtype=np.float64)


COMBINE: dict[str, Callable[[FloatArray, Mask], FloatArray]] = {"mean": _mean, "max": _max, "noisy-or": _noisy_or}
