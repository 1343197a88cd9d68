"""Labelled cases: SOURCES, the manifest and the split."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from medloop.data.places import Places
from medloop.data.sources.csv_table import read_csv_table
from medloop.data.sources.folder import read_folder
from medloop.data.sources.listed import read_dicom, read_listed
from medloop.data.sources.medmnist import read_medmnist
from medloop.data.sources.phantoms import read_phantoms
from medloop.data.sources.wisconsin import read_wisconsin
from medloop.errors import UnknownName
from medloop.recipe import DataSection


@dataclass(frozen=True)
class Source:
    """One entry: how its cases are read, what kind they are, and the files that `medloop audit` reads with it."""

    read: Callable[[DataSection, Places], pd.DataFrame]
    gives: Literal["table", "images"]
    suffix: str | None = None

    @property
    def summary(self) -> str:
        """Return the sentence that describes the entry in help texts and tables."""
        return (inspect.getdoc(self.read) or "").split("\n")[0]


SOURCES: dict[str, Source] = {
    "csv": Source(read_csv_table, "table", suffix=".csv"),
    "wisconsin": Source(read_wisconsin, "table"),
    "folder": Source(read_folder, "images"),
    "csv_images": Source(read_listed, "images"),
    "dicom": Source(read_dicom, "images"),
    "medmnist": Source(read_medmnist, "images", suffix=".npz"),
    "phantoms": Source(read_phantoms, "images"),
}


def find_source(name: str) -> Source:
    """Return the entry of this name."""
    if name not in SOURCES:
        raise UnknownName("data.source", name, SOURCES)
    return SOURCES[name]


def source_for(path: str) -> str:
    """Return the name of the source that reads this file, or that of a folder."""
    suffix = Path(path).suffix.lower()
    return next((name for name, source in SOURCES.items() if source.suffix == suffix), "folder")


def read_source(section: DataSection, places: Places) -> pd.DataFrame:
    """Return the manifest of the recipe's source."""
    return find_source(section.source).read(section, places)
