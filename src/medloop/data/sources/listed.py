"""Sources: a CSV file of image paths and labels; DICOM files, labelled by such a file or by their folders."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from medloop.data.images import GIVEN, Found, class_of, manifest_of_images
from medloop.data.places import Places
from medloop.data.sources.folder import found_in, root_of
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.prepare.csv_cells import read_cells
from medloop.recipe import DataSection


def read_listed(section: DataSection, places: Places) -> pd.DataFrame:
    """Read the images that a CSV file lists."""
    if section.image is None or section.label is None:
        raise UserError(
            "Source csv_images needs data.image and data.label.",
            "Name the columns of the path and the class in params.yaml.",
        )
    table = _table(section, places)
    return manifest_of_images(table.parent, [listed(table, section)], places, section, source="csv_images")


def read_dicom(section: DataSection, places: Places) -> pd.DataFrame:
    """Read a folder of DICOM files; patient ids come from their tags, hashed with the key of the settings."""
    if section.image is not None:
        table = _table(section, places)
        return manifest_of_images(table.parent, [listed(table, section)], places, section, source="dicom")
    root = root_of(section, places)
    return manifest_of_images(root, found_in(root, section), places, section, source="dicom")


def _table(section: DataSection, places: Places) -> Path:
    """Return the CSV file: `data.path` itself, or `data.index` (else the only one) in the folder or archive."""
    if section.path is None:
        raise UserError(f"Source {section.source} needs data.path.", "Set it in params.yaml.")
    path = places(section.path)
    if path.is_file():
        return path
    tables = [path / section.index] if section.index else sorted(path.rglob("*.csv"))
    if len(tables) != 1 or not tables[0].is_file():
        raise UserError(
            f"`data.path` has {sum(table.is_file() for table in tables)} CSV files that could list the images.",
            "Name the file in `data.index`.",
        )
    return tables[0]


def listed_files(table: Path, section: DataSection) -> list[Path]:
    """Return the files that a table lists; none if it cannot be read, which ingest reports."""
    try:
        header, cells = read_cells(table)
    except UserError:
        return []
    place = header.index(section.image) if section.image in header else None
    return [] if place is None else [table.parent / row[place] for row in cells]


def listed(table: Path, section: DataSection) -> Found:
    """Return one image per row; paths are relative to the table's folder and may not leave it."""
    header, cells = read_cells(table)
    columns = {"image": section.image, "label": section.label, "patient": section.patient, "split": section.split}
    for name in (*columns.values(), *section.columns):
        if name is not None and name not in header:
            raise UnknownName("column", name, header, where=table.name)
    place = {what: header.index(name) for what, name in columns.items() if name is not None}
    further = {name: header.index(name) for name in section.columns}
    key_of = _keys_below(table.parent)
    found, first = Found(), dict[str, int]()
    for number, row in enumerate(cells, 2):
        known = {what: row[at] for what, at in place.items() if row[at] not in section.missing}
        key = key_of(known.get("image", ""))
        if key is None or key in first:
            raise RejectedInput(
                f"{table.name}: row {number} names no image below the table's folder."
                if key is None
                else f"{table.name}: rows {first[key]} and {number} name the same image.",
                "Correct the path in that row.",
            )
        first[key] = number
        label = known.get("label")
        given = _given(known["split"], table.name, number) if "split" in known else None
        subgroups = {name: None if row[at] in section.missing else row[at] for name, at in further.items()}
        found.add(
            key,
            class_of(label, section) if label else None,
            patient=known.get("patient"),
            given=given,
            subgroups=subgroups,
        )
    return found


def _keys_below(folder: Path) -> Callable[[str], str | None]:
    """Return a function from a cell to the path from the folder, links resolved, or None if that is no file inside."""
    root = folder.resolve()
    # Resolving is slow, and most files lie in a few folders.
    resolved = functools.cache(lambda parent: (root / parent).resolve())

    def key_of(cell: str) -> str | None:
        parent, slash, name = cell.rpartition("/")
        path: Path = resolved(parent + slash) / name
        if name == ".." or path.is_symlink():
            path = path.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) and path.is_file() else None

    return key_of


def _given(text: str, file: str, row: int) -> str:
    if text.lower() not in GIVEN:
        raise UnknownName("split", text, GIVEN, where=f"{file}, row {row}")
    return GIVEN[text.lower()]
