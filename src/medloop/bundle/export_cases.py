"""The cases of an image export: those the model learned from, and those that its decisions are fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medloop.bundle.calibrate import log_probabilities
from medloop.bundle.decide import FloatArray, IntArray
from medloop.errors import UserError
from medloop.prepare.prepared_images import PreparedImages
from medloop.storage import read_json

CALIB, TRAIN, VAL = "calib", "train", "val"


@dataclass(frozen=True, kw_only=True)
class ExportCases:
    """Rows of the prepared images; `held_learned` says that only the folds' models did not see the held-out ones."""

    classes: tuple[str, ...]
    train: IntArray
    train_y: IntArray
    train_fold: IntArray
    held: IntArray
    held_y: IntArray
    held_groups: list[str]
    held_logits: FloatArray
    held_from: str
    held_learned: bool


def read_export_cases(trained: Path, splits: Path, pictures: PreparedImages) -> ExportCases:
    """The calib part decides; where there is none, the cases that training held out. Never the test part."""
    classes = tuple(pictures.task["classes"])
    parts = pd.read_parquet(splits).set_index("case_id").reindex(pictures.case_ids)
    part, fold = parts["part"].to_numpy(), parts["fold"].to_numpy()
    y = np.array([classes.index(label) for label in pictures.labels])
    is_head = read_json(trained / "model.json")["mode"] == "head"
    # A head is quickly fitted: once its strength is chosen, it learns from the cases that chose it as well.
    train = np.flatnonzero(np.isin(part, (TRAIN, VAL) if is_head else TRAIN))
    held_out = pd.read_parquet(trained / "held_out.parquet")
    held, logits, held_from = np.flatnonzero(part == CALIB), np.empty((0, len(classes))), "the calib part"
    if not len(held):
        place = {case_id: row for row, case_id in enumerate(pictures.case_ids)}
        held = np.array([place[case_id] for case_id in held_out["case_id"]], dtype=np.int64)
        logits = log_probabilities(held_out[[f"p{number}" for number in range(len(classes))]].to_numpy(float))
        held_from = "the val part" if (part[held] == VAL).all() else "held-out training cases"
    if not np.isin(part[held], (CALIB, TRAIN, VAL)).all():
        raise UserError(
            "nothing may be fitted on test cases", found="held-out cases of the test part", hint="train again"
        )
    if absent := [name for number, name in enumerate(classes) if number not in y[held]]:
        raise UserError(
            "every class must be among the cases that decisions are fitted on",
            found=f"none of {', '.join(absent)} in {held_from}",
            hint="enlarge split.calib or split.val, or set train.cross_validate: true",
        )
    # A head is fitted again on all folds, and a network of the final turn left one of them out.
    learned = bool(np.isin(held, train).any()) and (is_head or len(set(fold[held].tolist())) > 1)
    return ExportCases(
        classes=classes,
        train=train,
        train_y=y[train],
        train_fold=fold[train].astype(np.int64),
        held=held,
        held_y=y[held],
        # Patients who look alike share a group, but each of them is answered.
        held_groups=parts["patient" if "patient" in parts else "group"].to_numpy()[held].tolist(),
        held_logits=logits,
        held_from=held_from,
        held_learned=learned,
    )
