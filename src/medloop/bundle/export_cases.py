"""The cases of an image export: those the model learned from, and those that its decisions are fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle.calibrate import Source, log_probabilities
from medloop.bundle.decide import FloatArray, IntArray
from medloop.bundle.fold_figures import FoldScores
from medloop.errors import UserError
from medloop.prepare.prepared_images import PreparedImages
from medloop.storage import read_json, read_parquet

CALIB, TRAIN, VAL = "calib", "train", "val"
EPOCH, STRENGTH = "epoch", "head_C"


@dataclass(frozen=True, kw_only=True)
class ExportCases:
    """Rows of the prepared images; `scored` are held-out cases of the training, which a head scores anew."""

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
    """The calib part decides; where there is none, out-of-fold cases, or those that training held out. Never test."""
    classes, model = tuple(pictures.task["classes"]), read_json(trained / "model.json")
    parts = read_parquet(splits).set_index("case_id").reindex(pictures.case_ids)
    part, fold = parts["part"].to_numpy(), parts["fold"].to_numpy(np.float64)
    # Patients who look alike share a group, but each of them is answered.
    column = "patient" if by_patient and "patient" in parts else "group"
    y, groups = np.array([classes.index(label) for label in pictures.labels]), parts[column].to_numpy()
    is_head = model["mode"] == "head"
    # A head is quickly fitted: once its strength is chosen, it learns from the cases that chose it as well.
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
        # The validation cases are one more fold: the heads that score them learned from all others.
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
    """The cases that training held out, with what the models said that had not learned from them."""
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
    """What a network's held-out cases are: its folds, or the part (or the fold) that chose its epoch."""
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
            "nothing may be fitted on test cases", found="held-out cases of the test part", hint="train again"
        )
    if absent := [name for number, name in enumerate(classes) if number not in y]:
        raise UserError(
            "every class must be among the cases that decisions are fitted on",
            found=f"none of {', '.join(absent)} in {source.fitted_on}",
            hint="enlarge split.calib or split.val, or set train.cross_validate: true",
        )
