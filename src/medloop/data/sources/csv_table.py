"""Source: any CSV file with a label column; odd cells are errors that name row and column."""

from __future__ import annotations

import re

import pandas as pd

from medloop.case import Value
from medloop.data.places import Places
from medloop.data.table import Sheet, manifest_of
from medloop.errors import RejectedInput, UserError
from medloop.prepare.csv_cells import finite_number, is_number, read_cells, unsafe_text
from medloop.recipe import DataSection

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
NUMBERS_NEEDED = 0.5


def read_csv_table(section: DataSection, places: Places) -> pd.DataFrame:
    """Read a CSV file with a label column."""
    if section.path is None or section.label is None:
        raise UserError(
            "Source csv needs data.path and data.label.",
            "Set both in params.yaml: the file, and the column of the class.",
        )
    header, cells = read_cells(places(section.path))
    _check_header(header)
    missing = frozenset(section.missing)
    columns: dict[str, list[Value]] = {}
    for number, name in enumerate(header):
        texts = [row[number] for row in cells]
        # An empty column is kept only if the recipe names it.
        if name in _named(section) or any(text not in missing for text in texts):
            columns[name] = _values(texts, name, section, missing)
    return manifest_of(Sheet(columns), section, source="csv")


def _check_header(header: list[str]) -> None:
    for number, name in enumerate(header, 1):
        if reason := unsafe_text(name):
            raise RejectedInput(f"The name of column {number} is {reason}.", "Rename the column.")


def _named(section: DataSection) -> frozenset[str | None]:
    lists = (section.features, section.drop, section.categories, section.columns)
    return frozenset({section.label, section.patient, section.key}.union(*lists))


def _values(texts: list[str], name: str, section: DataSection, missing: frozenset[str]) -> list[Value]:
    """Return the values of a column; columns that the model never sees are not checked."""
    if name in (section.label, section.patient, section.key):
        return _texts(texts, name, missing)
    if name in section.columns and name not in section.features:
        return _texts(texts, name, missing)
    if name in section.drop or (section.features and name not in section.features):
        return list(texts)
    return _texts(texts, name, missing) if name in section.categories else typed_column(texts, name, missing)


def typed_column(texts: list[str], name: str, missing: frozenset[str]) -> list[Value]:
    """Return numbers if the column is numeric, else categories; a mixture is an error."""
    known = [text for text in texts if text not in missing]
    numeric = [text for text in known if is_number(text)]
    if len(numeric) >= NUMBERS_NEEDED * len(known) and known:
        return [
            None if text in missing else finite_number(text, column=name, row=row) for row, text in enumerate(texts, 2)
        ]
    odd = numeric or [text for text in known if DECIMAL_COMMA.fullmatch(text)]
    if odd:
        raise RejectedInput(
            f"Column '{name}' mixes numbers and texts: {odd[0][:40]!r} in row {texts.index(odd[0]) + 2}.",
            "Use a decimal point, list codes for missing values in `data.missing`, or name the column in "
            "`data.categories`.",
        )
    return _texts(texts, name, missing)


def _texts(texts: list[str], name: str, missing: frozenset[str]) -> list[Value]:
    for row, text in enumerate(texts, 2):
        if text not in missing and (reason := unsafe_text(text)):
            raise RejectedInput(
                f"Column '{name}' has {reason} in row {row}.",
                "Paste values instead of formulas and export again, or name the column in `data.drop`.",
            )
    return [None if text in missing else text for text in texts]
