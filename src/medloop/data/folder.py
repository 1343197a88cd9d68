"""A source: a folder of classes, with or without folders train, valid and test above them; also DICOM folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from medloop.data.images import GIVEN, Found, class_of, manifest_of_images, patient_of
from medloop.data.places import Places
from medloop.errors import UserError
from medloop.recipe import DataSection

NOT_IMAGES = (".csv", ".json", ".txt", ".md", ".yaml", ".yml", ".xml", ".xlsx", ".db", ".py", ".npz")


def read_folder(section: DataSection, places: Places) -> pd.DataFrame:
    """The manifest of a folder whose folders are the classes."""
    root = root_of(section, places)
    return manifest_of_images(root, found_in(root, section), places, section, source="folder")


def root_of(section: DataSection, places: Places) -> Path:
    """The folder that the recipe names; a lone folder of folders, as archives have it, is stepped into."""
    if section.path is None:
        raise UserError(f"source {section.source} needs data.path", found="none", hint="name the place in params.yaml")
    root = places(section.path)
    if not root.is_dir():
        raise UserError("data.path must be a folder or an archive", found="a file", hint="choose another data.source")
    inside = _shown_in(root)
    while len(inside) == 1 and inside[0].name.lower() not in GIVEN and any(map(Path.is_dir, _shown_in(inside[0]))):
        root = inside[0]
        inside = _shown_in(root)
    return root


def _shown_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not _is_hidden(path.name)] if folder.is_dir() else []


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def image_names(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below the root with the names of its files that may be images; content decides later."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            files: list[str] = []
            for entry in entries:
                if entry.is_file():
                    files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False) and not _is_hidden(entry.name):
                    waiting.append(f"{folder}{entry.name}/")
        names = [name for name in files if not name.lower().endswith(NOT_IMAGES) and not _is_hidden(name)]
        if names:
            yield folder, names


def found_in(root: Path, section: DataSection) -> Iterator[Found]:
    """The files below the class folders, folder by folder."""
    for folder, names in image_names(root):
        parts = folder.split("/")[:-1]
        given = GIVEN.get(parts[0].lower()) if parts else None
        classes = parts[1:] if given else parts
        if not classes:
            raise UserError(
                "every image must lie in the folder of its class",
                found="an image that lies beside the class folders",
                hint="move it into one, or list labels in a CSV file (data.source: csv_images)",
            )
        yield Found(
            keys=[folder + name for name in names],
            labels=[class_of(classes[0], section)] * len(names),
            patients=[patient_of(name, section) for name in names] if section.patient_pattern else [None] * len(names),
            given=[given] * len(names),
        )
