"""Generated tables with every kind of column, and their way into a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medloop.data import read_source
from medloop.data.places import Places
from medloop.recipe import DataSection

LABEL = "diagnosis"


def clinic(
    rows: int = 200,
    *,
    seed: int = 0,
    classes: Sequence[str] = ("benign", "malignant"),
    missing: float = 0.0,
    visits: int = 1,
) -> pd.DataFrame:
    """Patients with `visits` rows each: numbers, two categories and a class that can be learned, not read off."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(-(-rows // visits)) % len(classes), visits)[:rows]
    table = pd.DataFrame(
        {
            "patient": [f"p{number // visits:04d}" for number in range(rows)],
            "age": rng.normal(55, 9, rows).round(1),
            "area": np.exp(rng.normal(5 + 0.5 * kind, 0.5)).round(3),
            "texture": rng.normal(20 + 2 * kind, 2.5).round(3),
            "cells": rng.poisson(4 + 2 * kind),
            "side": rng.choice(["left", "right"], rows),
            "stage": rng.choice(["I", "II", "III"], rows),
            LABEL: np.array(classes)[kind],
        }
    )
    for name in ("area", "texture", "stage"):
        gaps = rng.random(rows) < missing
        table[name] = table[name].astype(object).mask(gaps, None)
    return table


def write_csv(table: pd.DataFrame, folder: Path, name: str = "table.csv") -> Path:
    """The table as a CSV file."""
    path = folder / name
    table.to_csv(path, index=False)
    return path


def section_for(path: Path, **data: Any) -> DataSection:
    """The recipe's section for a file of such a table."""
    return DataSection(**{"path": str(path), "label": LABEL, "patient": "patient", **data})


def places(folder: Path) -> Places:
    """Local files as they are."""
    return Places(local=Path, root=folder, raw=folder / "raw")


def cases_of(table: pd.DataFrame, folder: Path, **data: Any) -> pd.DataFrame:
    """The manifest of the table, by way of a CSV file."""
    return read_source(section_for(write_csv(table, folder), **data), places(folder))
