"""Turn table rows into the model's typed inputs, with the same code for training and serving."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from medloop.case import Row, Value
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.prepare.csv_cells import MAX_NUMBER, is_number, unsafe_text

MISSING_CATEGORY = "(missing)"
OUTPUT_NAMES = frozenset({"logits", "embedding", "cam"})

Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """One input of the model."""

    name: str
    kind: Literal["number", "category"]


@dataclass(frozen=True)
class TablePreparer:
    """The columns of a model's input, in the table's order."""

    columns: tuple[Column, ...]

    @classmethod
    def fit(
        cls, values: Mapping[str, Sequence[Value]], *, categories: Iterable[str], max_categories: int
    ) -> TablePreparer:
        """Choose the columns: numbers stay numbers; text, and columns that the recipe names, are categories."""
        forced = frozenset(categories)
        columns = []
        for name, column in values.items():
            known = {value for value in column if not _is_missing(value)}
            is_category = name in forced or any(isinstance(value, str) for value in known)
            if is_category and len(known) > max_categories:
                raise UserError(
                    f"Column '{name}' has {len(known)} categories, and `prepare.max_categories` is {max_categories}.",
                    "Name it in `data.drop`, or raise `prepare.max_categories`.",
                )
            if name in OUTPUT_NAMES:
                raise UserError(f"'{name}' is reserved as a column name.", "Rename the column.")
            columns.append(Column(name, "category" if is_category else "number"))
        return cls(tuple(columns))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TablePreparer:
        """Build the preparer from the result of `to_json`."""
        return cls(tuple(Column(**column) for column in content["columns"]))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `preparer.json` and `bundle.json`."""
        return {"kind": "table", "columns": [asdict(column) for column in self.columns]}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the column names, in order."""
        return tuple(column.name for column in self.columns)

    def row_of(self, features: Sequence[Value]) -> Row:
        """Return the row of values that come in the order of the columns."""
        if len(features) != len(self.columns):
            raise RejectedInput(
                f"`features` has {len(features)} values, and the model needs {len(self.columns)} "
                f"({', '.join(self.names)}).",
                "Send all of them, null if unknown; or send named records to /v1/predictions.",
            )
        return dict(zip(self.names, features, strict=True))

    def read_texts(self, texts: Mapping[str, str], *, missing: Collection[str]) -> Row:
        """Return a row from texts, each read like a cell of a CSV file; an empty one is missing."""
        numbers = {column.name for column in self.columns if column.kind == "number"}
        stripped = {name: text.strip() for name, text in texts.items()}
        return {
            name: None if not text or text in missing else _read_number(text, name) if name in numbers else text
            for name, text in stripped.items()
        }

    def check_texts(self, row: Row) -> None:
        """Refuse texts that training refuses, since corrections are exported to tables that people open."""
        for name, value in row.items():
            if isinstance(value, str) and (reason := unsafe_text(value)):
                raise RejectedInput(f"'{name}' holds {reason}.", "Send plain text.")

    def prepare(self, rows: Sequence[Row]) -> Inputs:
        """Return one typed array per column, with a row per case."""
        for row in rows:
            self._check_names(row)
        return {column.name: self._column(column, [row[column.name] for row in rows]) for column in self.columns}

    def _check_names(self, row: Row) -> None:
        if unknown := [name for name in row if name not in self.names]:
            raise _rejected(UnknownName("column", unknown[0], self.names))
        if absent := [name for name in self.names if name not in row]:
            raise RejectedInput(
                f"The record has no column '{absent[0]}' ({len(row)} of {len(self.names)} columns).",
                "Send null if the value is unknown.",
            )

    def _column(self, column: Column, values: list[Value]) -> NDArray[Any]:
        if column.kind == "number":
            return np.array([[_number(value, column.name)] for value in values], dtype=np.float32)
        return np.array([[_category(value, column.name)] for value in values], dtype=object)


def _rejected(error: UserError) -> RejectedInput:
    return RejectedInput(error.problem, error.hint)


def _is_missing(value: Value) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Value, name: str) -> float:
    if _is_missing(value):
        return math.nan
    number = float(value) if isinstance(value, str) and is_number(value) else value
    if not _is_finite(number):
        raise RejectedInput(f"'{name}' is {_quoted(value)}, not a finite number.", "Send a number, or null.")
    return float(number)


def _read_number(text: str, name: str) -> float:
    if not is_number(text) or not _is_finite(number := float(text)):
        raise RejectedInput(
            f"'{name}' is {_quoted(text)}, not a finite number.",
            "Write a number such as 1234.5, with a decimal point and no thousands separator.",
        )
    return number


def _category(value: Value, name: str) -> str:
    if _is_missing(value):
        return MISSING_CATEGORY
    if isinstance(value, str):
        return value
    if not _is_finite(value):
        raise RejectedInput(f"'{name}' is {_quoted(value)}, not a text.", "Send a text, or null.")
    return str(int(value)) if value == int(value) else repr(float(value))


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def _quoted(value: object) -> str:
    # Python refuses to format integers with thousands of digits.
    return "a number too large" if type(value) is int else repr(value)[:40]
