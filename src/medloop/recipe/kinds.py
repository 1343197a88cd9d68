"""The recipe fields that only images or only tables use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medloop.errors import UserError
from medloop.recipe.recipe import RECIPE_FILE, Recipe

Kind = Literal["table", "images"]

FIELDS_OF_KIND: dict[Kind, dict[str, tuple[str, ...]]] = {
    "images": {
        "data": ("image", "index", "split", "class_pattern", "patient_pattern", "phantom"),
        "audit": ("shortcut_auc", "probe_cases"),
        "prepare": ("size", "channels", "fit", "window", "frame"),
        "train": (
            *("mode", "cross_validate", "augment", "batch_size", "balance", "precision", "views", "head_c", "epochs"),
            *("learning_rate", "backbone_factor", "freeze", "weight_decay", "warmup", "label_smoothing", "mixup"),
            *("ema", "clip", "patience", "deterministic"),
        ),
        "export": ("precision", "per", "combine"),
    },
    "table": {
        "data": ("key", "features", "drop", "categories"),
        "audit": ("leak_auc", "range_sigmas", "reference"),
        "prepare": ("max_categories",),
    },
}
NAMES: dict[Kind, str] = {"table": "a table", "images": "images"}


def check_kind(recipe: Recipe, kind: Kind) -> None:
    """Refuse fields that would have no effect; a default that is written out is harmless."""
    other: Kind = "table" if kind == "images" else "images"
    if found := list(_changed_fields(recipe, other)):
        raise UserError(
            f"{RECIPE_FILE} sets {', '.join(found)}, which only {NAMES[other]} can use, "
            f"but data.source: {recipe.data.source} provides {NAMES[kind]}.",
            f"Remove {'it' if len(found) == 1 else 'them'} from {RECIPE_FILE}, or choose another data.source.",
        )


def _changed_fields(recipe: Recipe, kind: Kind) -> Iterator[str]:
    for name, fields in FIELDS_OF_KIND[kind].items():
        section = getattr(recipe, name)
        default = type(section)()
        yield from (f"{name}.{field}" for field in fields if getattr(section, field) != getattr(default, field))
