"""A table's row -> the model's typed inputs; the same code for training and serving."""

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
from medloop.prepare.csv_cells import LARGEST, is_number, strangeness

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
        """Numbers stay numbers; text, and what the recipe names, is a category."""
        forced = frozenset(categories)
        columns = []
        for name, column in values.items():
            known = {value for value in column if not _is_missing(value)}
            is_category = name in forced or any(isinstance(value, str) for value in known)
            if is_category and len(known) > max_categories:
                raise UserError(
                    f"column '{name}' must have at most {max_categories} categories (prepare.max_categories)",
                    found=f"{len(known)} different values",
                    hint="name it in data.drop, or raise prepare.max_categories",
                )
            if name in OUTPUT_NAMES:
                raise UserError(f"no column may be called '{name}'", found="one is", hint="rename it: a bundle uses it")
            columns.append(Column(name, "category" if is_category else "number"))
        return cls(tuple(columns))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TablePreparer:
        """The preparer that `to_json` wrote."""
        return cls(tuple(Column(**column) for column in content["columns"]))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `preparer.json` and `bundle.json`."""
        return {"kind": "table", "columns": [asdict(column) for column in self.columns]}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(column.name for column in self.columns)

    def row_of(self, features: Sequence[Value]) -> Row:
        """The named row for values that come in the table's order."""
        if len(features) != len(self.columns):
            raise RejectedInput(
                f"features must hold {len(self.columns)} values, in the order {', '.join(self.names)}",
                found=f"{len(features)} values",
                hint="send them all, null where unknown; or send named records to /v1/predictions",
            )
        return dict(zip(self.names, features, strict=True))

    def read_texts(self, texts: Mapping[str, str], *, missing: Collection[str]) -> Row:
        """The row that texts stand for, each read as a cell of a CSV file is; an empty one is missing."""
        numbers = {column.name for column in self.columns if column.kind == "number"}
        stripped = {name: text.strip() for name, text in texts.items()}
        return {
            name: None if not text or text in missing else _read_number(text, name) if name in numbers else text
            for name, text in stripped.items()
        }

    def check_texts(self, row: Row) -> None:
        """Refuse texts that training refuses in a table, for corrections are written into tables that people open."""
        for name, value in row.items():
            if isinstance(value, str) and (strange := strangeness(value)):
                raise RejectedInput(f"'{name}' must be a plain text", found=strange, hint="send the text as it is read")

    def prepare(self, rows: Sequence[Row]) -> Inputs:
        """One typed array a column, a row a case."""
        for row in rows:
            self._check_names(row)
        return {column.name: self._column(column, [row[column.name] for row in rows]) for column in self.columns}

    def _check_names(self, row: Row) -> None:
        if unknown := [name for name in row if name not in self.names]:
            raise _rejected(UnknownName("a column", unknown[0], self.names))
        if absent := [name for name in self.names if name not in row]:
            raise RejectedInput(
                f"a record must name the column '{absent[0]}'",
                found=f"{len(row)} of {len(self.names)} columns",
                hint="send null where the value is unknown",
            )

    def _column(self, column: Column, values: list[Value]) -> NDArray[Any]:
        if column.kind == "number":
            return np.array([[_number(value, column.name)] for value in values], dtype=np.float32)
        return np.array([[_category(value, column.name)] for value in values], dtype=object)


def _rejected(error: UserError) -> RejectedInput:
    return RejectedInput(error.must, found=error.found, hint=error.hint)


def _is_missing(value: Value) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Value, name: str) -> float:
    if _is_missing(value):
        return math.nan
    number = float(value) if isinstance(value, str) and is_number(value) else value
    if not _is_finite(number):
        raise RejectedInput(f"'{name}' must be a finite number", found=_quoted(value), hint="send a number, or null")
    return float(number)


def _read_number(text: str, name: str) -> float:
    if not is_number(text) or not _is_finite(number := float(text)):
        raise RejectedInput(
            f"'{name}' must be a finite number",
            found=_quoted(text),
            hint="write a number such as 1234.5, with a decimal point and nothing between the digits",
        )
    return number


def _category(value: Value, name: str) -> str:
    if _is_missing(value):
        return MISSING_CATEGORY
    if isinstance(value, str):
        return value
    if not _is_finite(value):
        raise RejectedInput(f"'{name}' must be a text", found=_quoted(value), hint="send a text, or null")
    return str(int(value)) if value == int(value) else repr(float(value))


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _quoted(value: object) -> str:
    # Python refuses to write out whole numbers of thousands of digits.
    return "a number too large" if type(value) is int else repr(value)[:40]
