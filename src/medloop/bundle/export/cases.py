"""The cases of an image export: those the model was trained on, and those that its decisions are fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle.calibrate import Source, log_probabilities
from medloop.bundle.decide import FloatArray, IntArray
from medloop.bundle.export.fold_figures import FoldScores
from medloop.errors import UserError
from medloop.prepare.prepared_images import PreparedImages
from medloop.storage import read_json, read_parquet

CALIB, TRAIN, VAL = "calib", "train", "val"
EPOCH, STRENGTH = "epoch", "head_C"


@dataclass(frozen=True, kw_only=True)
class ExportCases:
    """Rows of the prepared images; `scored` are the held-out cases of a fine-tuning, which a head scores again."""

    classes: tuple[str, ...]
    train: IntArray
    train_y: IntArray
    train_fold: IntArray
    train_groups: list[str]
    held: IntArray
    held_y: IntArray
    held_groups: list[str]
    held_logits: FloatArray
    source: Source
    scored: FoldScores | None


def read_export_cases(trained: Path, splits: Path, pictures: PreparedImages, *, by_patient: bool) -> ExportCases:
    """Return the cases; decisions are fitted on calib, or on out-of-fold or held-out cases, but never on test."""
    classes, model = tuple(pictures.task["classes"]), read_json(trained / "model.json")
    parts = read_parquet(splits).set_index("case_id").reindex(pictures.case_ids)
    part, fold = parts["part"].to_numpy(), parts["fold"].to_numpy(np.float64)
    # Near-duplicate patients share a group, but each of them gets a prediction.
    column = "patient" if by_patient and "patient" in parts else "group"
    y, groups = np.array([classes.index(label) for label in pictures.labels]), parts[column].to_numpy()
    is_head = model["mode"] == "head"
    # Once the strength of a head is chosen, it is fitted again with the cases that chose it.
    train = np.flatnonzero(np.isin(part, (TRAIN, VAL) if is_head else TRAIN))
    held, logits = np.flatnonzero(part == CALIB), np.empty((0, len(classes)))
    rows, scored = (train, None) if is_head else _held_out(trained, pictures, fold, y, groups)
    if len(held):
        source = Source(fitted_on="the calib part", method="calib")
    elif scored is not None:
        held, source, logits = rows, _source_of(part[rows], scored.fold), scored.logits
    else:
        held, source = rows, _out_of_fold(part[rows], fold[rows], model)
    _check(part[held], y[held], classes, source)
    return ExportCases(
        classes=classes,
        train=train,
        train_y=y[train],
        # The validation cases are one more fold: the head that scores them is fitted on all others.
        train_fold=np.where(part[train] == VAL, np.nanmax(fold, initial=0.0) + 1, fold[train]).astype(np.int64),
        train_groups=groups[train].tolist(),
        held=held,
        held_y=y[held],
        held_groups=groups[held].tolist(),
        held_logits=logits,
        source=source,
        scored=scored,
    )


def _held_out(
    trained: Path, pictures: PreparedImages, fold: Any, y: IntArray, groups: Any
) -> tuple[IntArray, FoldScores | None]:
    """Return the held-out cases of the training, with the scores of the models that were not trained on them."""
    table = read_parquet(trained / "held_out.parquet")
    place = {case_id: row for row, case_id in enumerate(pictures.case_ids)}
    rows = np.array([place[case_id] for case_id in table["case_id"]], dtype=np.int64)
    shares = table[[f"p{number}" for number in range(len(pictures.task["classes"]))]].to_numpy(float)
    scored = FoldScores(
        logits=log_probabilities(shares),
        y=y[rows],
        fold=fold[rows].astype(np.int64),
        groups=groups[rows].tolist(),
    )
    return rows, scored


def _source_of(part: Any, fold: IntArray) -> Source:
    """Return the source of a network's held-out cases: its folds, or the part or fold that chose its epoch."""
    if (part == VAL).all():
        return Source(fitted_on="the val part", method="val", also_chose=(EPOCH,))
    folds = len(set(fold.tolist()))
    if folds == 1:
        return Source(fitted_on="held-out training cases", method="fold", also_chose=(EPOCH,))
    return Source(fitted_on="out-of-fold training cases", method="out_of_fold", folds=folds, refitted=True)


def _out_of_fold(part: Any, fold: FloatArray, model: Mapping[str, Any]) -> Source:
    has_val = bool((part == VAL).any())
    return Source(
        fitted_on="out-of-fold training and validation cases" if has_val else "out-of-fold training cases",
        method="out_of_fold",
        folds=len(set(fold[part == TRAIN].tolist())) + has_val,
        also_chose=(STRENGTH,) if model.get("head_C_chosen", True) else (),
        refitted=True,
    )


def _check(part: Any, y: IntArray, classes: tuple[str, ...], source: Source) -> None:
    if not np.isin(part, (CALIB, TRAIN, VAL)).all():
        raise UserError(
            "The held-out cases of the training are in the test part, on which nothing may be fitted.",
            "Train again with `medloop train`.",
        )
    if absent := [name for number, name in enumerate(classes) if number not in y]:
        raise UserError(
            f"No cases of class {', '.join(absent)} in {source.fitted_on}, on which the decisions are fitted.",
            "Increase split.calib or split.val, or set train.cross_validate: true.",
        )
