"""The training cases of an image model: the images of the parts train and val, and how each turn uses them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.decode.rule import Pixels
from medloop.errors import UserError
from medloop.metrics.view import IntArray
from medloop.prepare.prepared_images import INDEX, read_prepared_images
from medloop.storage import read_json, read_parquet, sha256_bytes

Rows = NDArray[np.int64]
FINAL = -1


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Rows to train on, rows that choose the epoch or the strength of the head, and rows to measure on."""

    fold: int
    seen: Rows
    watched: Rows
    held: Rows


@dataclass(frozen=True, kw_only=True)
class ImageLearning:
    """The training and validation cases, in the order of the prepared array; rows are numbered within them."""

    images: Pixels
    places: Rows
    y: IntArray
    fold: IntArray
    is_val: NDArray[np.bool_]
    groups: list[str]
    case_ids: list[str]
    classes: tuple[str, ...]
    positive: tuple[str, ...]
    prepared: str

    def pixels(self, rows: Rows) -> Pixels:
        """Return the images of some rows, N x H x W x C."""
        return np.asarray(self.images[self.places[rows]])

    @cached_property
    def fingerprint(self) -> str:
        """The hash of these cases and their pixels."""
        return sha256_bytes("\n".join([self.prepared, *self.case_ids]).encode())

    def final_turn(self) -> Turn:
        """Return the turn of the model to export, for which val chooses, or the first fold if there is no val."""
        watched = self.is_val if self.is_val.any() else self.fold == 0
        return self._turn(FINAL, ~watched, watched, watched)

    def choosing_facts(self) -> dict[str, Any]:
        """Return which cases choose the epoch, the strength of the head and the tuned values."""
        watched = self.final_turn().watched
        groups = len({self.groups[row] for row in watched})
        return {"part": "val" if self.is_val.any() else "fold", "cases": len(watched), "groups": groups}

    def fold_turns(self) -> Iterator[Turn]:
        """Yield one turn for each fold; without val the next fold chooses, so that the held-out one only measures."""
        folds = int(self.fold.max()) + 1
        if folds < 3 and not self.is_val.any():
            raise UserError(
                f"There are {folds} folds and no validation cases, too few to cross-validate images.",
                "Set split.val: 0.1, or split.folds: 5.",
            )
        for number in range(folds):
            held = self.fold == number
            watched = self.is_val if self.is_val.any() else self.fold == (number + 1) % folds
            yield self._turn(number, ~held & ~watched & ~self.is_val, watched, held)

    def _turn(self, fold: int, seen: NDArray[np.bool_], *others: NDArray[np.bool_]) -> Turn:
        if absent := [name for number, name in enumerate(self.classes) if number not in self.y[seen]]:
            raise UserError(
                f"No training cases of class {', '.join(absent)}.", "Check data.classes, or add cases of every class."
            )
        watched, held = (np.flatnonzero(other) for other in others)
        return Turn(fold=fold, seen=np.flatnonzero(seen), watched=watched, held=held)


def read_image_learning(prepared: Path, splits: Path) -> ImageLearning:
    """Return the prepared images of train and val, without reading those of test and calib."""
    found = read_prepared_images(prepared)
    parts = read_parquet(splits).query("part in ('train', 'val')").set_index("case_id")
    places = np.array([place for place, name in enumerate(found.case_ids) if name in parts.index], np.int64)
    case_ids = [found.case_ids[place] for place in places]
    parts = parts.loc[case_ids]
    classes = tuple(found.task["classes"])
    return ImageLearning(
        images=found.images,
        places=places,
        y=np.array([classes.index(found.labels[place]) for place in places], np.int64),
        fold=parts["fold"].to_numpy(np.int64),
        is_val=(parts["part"] == "val").to_numpy(),
        groups=parts["group"].tolist(),
        case_ids=case_ids,
        classes=classes,
        positive=tuple(found.task["positive"]),
        prepared=read_json(prepared / INDEX)["key"],
    )
