"""The training cases of a table model, and how a fold is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.errors import UserError
from medloop.metrics.every import every_class_metric, every_metric
from medloop.metrics.view import FloatArray, IntArray, decided, positive_view
from medloop.models.pipeline import model_frame
from medloop.prepare.prepared_table import read_prepared
from medloop.storage import read_parquet

Mask = NDArray[np.bool_]

# How `measure` decides, in words.
FOLD_DECISION = "the likeliest class (0.5 for two classes)"


@dataclass(frozen=True, kw_only=True)
class TableLearning:
    """The training cases of a table, in the order of their ids."""

    frame: pd.DataFrame
    y: IntArray
    fold: IntArray
    groups: list[str]
    case_ids: list[str]
    kinds: dict[str, str]
    classes: tuple[str, ...]
    positive: tuple[str, ...]

    @property
    def fold_count(self) -> int:
        """The number of folds."""
        return int(self.fold.max()) + 1

    def folds(self) -> Iterator[tuple[Mask, Mask]]:
        """Yield for each fold the masks of the cases to train on and to measure on."""
        for fold in range(self.fold_count):
            yield self.fold != fold, self.fold == fold


def read_learning(folder: Path, splits: Path) -> TableLearning:
    """Return the training part of the prepared table."""
    prepared = read_prepared(folder)
    parts = read_parquet(splits).query("part == 'train'").set_index("case_id")
    chosen = [number for number, name in enumerate(prepared.case_ids) if name in parts.index]
    case_ids = [prepared.case_ids[number] for number in chosen]
    parts = parts.loc[case_ids]
    classes = tuple(prepared.task["classes"])
    labels = [prepared.labels[number] for number in chosen]
    if absent := sorted(set(classes) - set(labels)):
        raise UserError(
            f"No training cases of class {', '.join(absent)}.", "Check data.classes, or add cases of every class."
        )
    return TableLearning(
        frame=model_frame(prepared.preparer.prepare([prepared.rows[number] for number in chosen])),
        y=np.array([classes.index(label) for label in labels]),
        fold=parts["fold"].to_numpy(),
        groups=parts["group"].tolist(),
        case_ids=case_ids,
        kinds={column.name: column.kind for column in prepared.preparer.columns},
        classes=classes,
        positive=tuple(prepared.task["positive"]),
    )


def measure(
    y: IntArray, probabilities: FloatArray, classes: tuple[str, ...], positive: tuple[str, ...]
) -> dict[str, float]:
    """Return every metric at the default decision, in both views; the threshold is chosen at export."""
    truth, shares = positive_view(y, probabilities, classes, positive)
    by_class = every_class_metric(y, probabilities, decided(probabilities), classes, positive)
    return every_metric(truth, shares, decided(shares)) | by_class
