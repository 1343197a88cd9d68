"""Source: a folder of class folders, with or without folders train, valid and test above them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from medloop.data.images import GIVEN, Found, class_of, manifest_of_images, patient_of
from medloop.data.places import Places
from medloop.errors import UserError
from medloop.recipe import DataSection
from medloop.storage import walk_files

NOT_IMAGES = (".csv", ".json", ".txt", ".md", ".yaml", ".yml", ".xml", ".xlsx", ".db", ".py", ".npz")


def read_folder(section: DataSection, places: Places) -> pd.DataFrame:
    """Read a folder whose subfolders are the classes."""
    root = root_of(section, places)
    return manifest_of_images(root, found_in(root, section), places, section, source="folder")


def root_of(section: DataSection, places: Places) -> Path:
    """Return the folder of `data.path`, or the only folder of folders in it, as archives often have."""
    if section.path is None:
        raise UserError(f"Source {section.source} needs data.path.", "Set it in params.yaml.")
    root = places(section.path)
    if not root.is_dir():
        raise UserError("`data.path` is a file, not a folder or an archive.", "Choose another `data.source`.")
    inside = _visible_in(root)
    while len(inside) == 1 and inside[0].name.lower() not in GIVEN and any(map(Path.is_dir, _visible_in(inside[0]))):
        root = inside[0]
        inside = _visible_in(root)
    return root


def _visible_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not _is_hidden(path.name)] if folder.is_dir() else []


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def image_names(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder below the root with the names of its files that may be images; their content decides later."""
    for folder, files in walk_files(root, skip=_is_hidden):
        if names := [file.name for file in files if not file.name.lower().endswith(NOT_IMAGES)]:
            yield folder, names


def found_in(root: Path, section: DataSection) -> Iterator[Found]:
    """Yield the files below the class folders, folder by folder."""
    for folder, names in image_names(root):
        parts = folder.split("/")[:-1]
        given = GIVEN.get(parts[0].lower()) if parts else None
        classes = parts[1:] if given else parts
        if not classes:
            raise UserError(
                "An image lies outside the class folders.",
                "Move it into one, or list the labels in a CSV file (`data.source: csv_images`).",
            )
        yield Found(
            keys=[folder + name for name in names],
            labels=[class_of(classes[0], section)] * len(names),
            patients=[patient_of(name, section) for name in names] if section.patient_pattern else [None] * len(names),
            given=[given] * len(names),
        )
