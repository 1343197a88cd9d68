"""Where labelled cases come from: SOURCES, the manifest and the split."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from medloop.data.csv_table import read_csv_table
from medloop.data.folder import read_folder
from medloop.data.listed import read_dicom, read_listed
from medloop.data.medmnist import read_medmnist
from medloop.data.phantoms import read_phantoms
from medloop.data.places import Places
from medloop.data.wisconsin import read_wisconsin
from medloop.errors import UnknownName
from medloop.recipe import DataSection


@dataclass(frozen=True)
class Source:
    """One entry: how its cases are read, and what kind they are."""

    read: Callable[[DataSection, Places], pd.DataFrame]
    gives: Literal["table", "images"]

    @property
    def says(self) -> str:
        """The entry's sentence for help texts and tables."""
        return (inspect.getdoc(self.read) or "").split("\n")[0]


SOURCES: dict[str, Source] = {
    "csv": Source(read_csv_table, "table"),
    "wisconsin": Source(read_wisconsin, "table"),
    "folder": Source(read_folder, "images"),
    "csv_images": Source(read_listed, "images"),
    "dicom": Source(read_dicom, "images"),
    "medmnist": Source(read_medmnist, "images"),
    "phantoms": Source(read_phantoms, "images"),
}


def find_source(name: str) -> Source:
    """The entry of this name."""
    if name not in SOURCES:
        raise UnknownName("data.source", name, SOURCES)
    return SOURCES[name]


def read_source(section: DataSection, places: Places) -> pd.DataFrame:
    """The manifest of the recipe's source."""
    return find_source(section.source).read(section, places)
