"""The facts of an image training, recorded with its weights for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medloop.recipe import TrainSection
from medloop.train.images.examples import FINAL, ImageLearning, Turn
from medloop.train.learning import FOLD_DECISION

FINETUNED = ("batch_size", "weight_decay", "warmup", "label_smoothing", "mixup", "ema", "clip")


def image_facts(
    learning: ImageLearning,
    section: TrainSection,
    history: pd.DataFrame,
    *,
    turns: Sequence[Turn],
    tuned: Mapping[str, Any],
    backbone_factor: float,
) -> dict[str, Any]:
    """Return the cases, choices and values of the mode that ran, for the section with the tuned values."""
    seen = turns[-1].seen
    return {
        "task": "images",
        "mode": section.mode,
        "seed": section.seed,
        "cases": len(seen),
        "groups": len({learning.groups[row] for row in seen}),
        "chosen_on": learning.choosing_facts(),
        "folds": len(turns) - 1,
        "fold_decision": FOLD_DECISION,
        "weighting": section.balance if section.mode == "finetune" or section.balance == "none" else "weights",
        "tuned": dict(tuned),
        **(_head_facts(section) if section.mode == "head" else _network_facts(section, history, backbone_factor)),
    }


def _head_facts(section: TrainSection) -> dict[str, Any]:
    augment = {"augment": section.augment.model_dump()} if section.views > 1 else {}
    return {"settings": {"views": section.views, **augment}, "strength": "given" if section.head_c else "chosen"}


def _network_facts(section: TrainSection, history: pd.DataFrame, backbone_factor: float) -> dict[str, Any]:
    epochs = history[history["fold"] == FINAL]
    rates = {"learning_rate": section.learning_rate} | ({} if section.freeze else {"backbone_factor": backbone_factor})
    return {
        "frozen": section.freeze,
        "settings": {
            **rates,
            **{name: getattr(section, name) for name in FINETUNED},
            "augment": section.augment.model_dump(),
        },
        "epochs": {
            "asked": section.epochs,
            "run": len(epochs),
            "chosen": int(epochs.sort_values("val_loss", kind="stable")["epoch"].iloc[0]),
            "patience": section.patience,
        },
    }
