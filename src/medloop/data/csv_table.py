"""A source: any CSV file with a label column; strange cells are errors that name row and column."""

from __future__ import annotations

import re

import pandas as pd

from medloop.case import Value
from medloop.data.places import Places
from medloop.data.table import Sheet, manifest_of
from medloop.errors import RejectedInput, UserError
from medloop.prepare.csv_cells import finite_number, is_number, read_cells, strangeness
from medloop.recipe import DataSection

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
NUMBERS_NEEDED = 0.5


def read_csv_table(section: DataSection, places: Places) -> pd.DataFrame:
    """The manifest of a CSV file."""
    if section.path is None or section.label is None:
        raise UserError(
            "a CSV source needs data.path and data.label",
            found=f"path {section.path!r}, label {section.label!r}",
            hint="set both in params.yaml: the file, and the column that holds the class",
        )
    header, cells = read_cells(places(section.path))
    _check_header(header)
    missing = frozenset(section.missing)
    columns: dict[str, list[Value]] = {}
    for number, name in enumerate(header):
        texts = [row[number] for row in cells]
        # An all-empty column says nothing; it stays only where the recipe names it.
        if name in _named(section) or any(text not in missing for text in texts):
            columns[name] = _values(texts, name, section, missing)
    return manifest_of(Sheet(columns), section, source="csv")


def _check_header(header: list[str]) -> None:
    for number, name in enumerate(header, 1):
        if strange := strangeness(name):
            raise RejectedInput(
                "the name of a column must be plain text",
                found=f"{strange} in row 1, column {number}",
                hint="rename the column",
            )


def _named(section: DataSection) -> frozenset[str | None]:
    lists = (section.features, section.drop, section.categories, section.columns)
    return frozenset({section.label, section.patient, section.key}.union(*lists))


def _values(texts: list[str], name: str, section: DataSection, missing: frozenset[str]) -> list[Value]:
    """The column's values; what the model never sees may hold anything."""
    if name in (section.label, section.patient, section.key):
        return _texts(texts, name, missing)
    if name in section.columns and name not in section.features:
        return _texts(texts, name, missing)
    if name in section.drop or (section.features and name not in section.features):
        return list(texts)
    return _texts(texts, name, missing) if name in section.categories else typed_column(texts, name, missing)


def typed_column(texts: list[str], name: str, missing: frozenset[str]) -> list[Value]:
    """Numbers where the column is one of numbers, else categories; a mixture is an error."""
    known = [text for text in texts if text not in missing]
    numeric = [text for text in known if is_number(text)]
    if len(numeric) >= NUMBERS_NEEDED * len(known) and known:
        return [
            None if text in missing else finite_number(text, column=name, row=row) for row, text in enumerate(texts, 2)
        ]
    odd = numeric or [text for text in known if DECIMAL_COMMA.fullmatch(text)]
    if odd:
        raise RejectedInput(
            f"column '{name}' must hold either numbers, with a decimal point, or texts",
            found=f"{odd[0][:40]!r} in row {texts.index(odd[0]) + 2}",
            hint="mend the cells, list what stands for nothing in data.missing, or name the column in data.categories",
        )
    return _texts(texts, name, missing)


def _texts(texts: list[str], name: str, missing: frozenset[str]) -> list[Value]:
    for row, text in enumerate(texts, 2):
        if text not in missing and (strange := strangeness(text)):
            raise RejectedInput(
                f"column '{name}' must hold plain text",
                found=f"{strange} in row {row}",
                hint="paste values, not formulas, then export again; data.drop passes a column over",
            )
    return [None if text in missing else text for text in texts]
