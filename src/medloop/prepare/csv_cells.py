"""The cells of a CSV file; strange shapes and characters are errors that name the place."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from medloop.errors import RejectedInput, UserError

Cells = list[list[str]]

# The model's numbers are of 32 bits.
LARGEST = float.fromhex("0x1.fffffep+127")
MAX_CELL = 10_000
SIGNS = "=@+-"


def read_cells(path: Path) -> tuple[list[str], Cells]:
    """Header and rows of a CSV file whose shape is sound."""
    if not path.is_file():
        raise UserError("a table must be a CSV file", found=f"{path.name} is not a file", hint="mend the path")
    return cells_in(path.read_bytes(), path.name)


def cells_in(content: bytes, name: str) -> tuple[list[str], Cells]:
    """Header and rows of the content of a CSV file, which errors call by this name."""
    rows = _rows(_decoded(content, name), name)
    if len(rows) < 2:
        raise RejectedInput(f"{name} must have a header and rows", found=f"{len(rows)} lines", hint="export it again")
    return _checked_shape(rows, name)


def is_number(text: str) -> bool:
    """Whether Python and a person both read the text as a number; infinities count, underscores do not."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def finite_number(text: str, *, column: str, row: int) -> float:
    """The finite number in a cell."""
    value = float(text) if is_number(text) else math.nan
    if not abs(value) <= LARGEST:
        raise RejectedInput(
            f"column '{column}' must hold finite numbers",
            found=f"{text[:40]!r} in row {row}",
            hint="mend the cell, list it in data.missing, or name the column in data.categories or data.drop",
        )
    return value


def strangeness(text: str) -> str | None:
    """Why a text is not one to show or store; a lone sign is a finding (`+`, `--`), not a formula."""
    if len(text) > MAX_CELL:
        return "a very long text"
    if not text.isprintable():
        return "a character that cannot be seen"
    is_formula = text.startswith(tuple(SIGNS)) and text.strip(SIGNS) and not is_number(text)
    return "a formula" if is_formula else None


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RejectedInput(
            f"{name} must be UTF-8", found=f"another encoding in line {line}", hint="save it as CSV UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise RejectedInput(f"{name} must be text", found=f"a NUL byte in line {line}", hint="export it again")
    return text


def _rows(text: str, file: str) -> Cells:
    delimiter = ";" if _is_semicolon_separated(text) else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RejectedInput(
            f"{file} must be CSV", found=f"{error} in line {reader.line_num}", hint="check its quotes"
        ) from error
    while rows and not rows[-1]:
        rows.pop()
    # Passed over, it would leave every later row with another number than the person sees.
    if [] in rows:
        raise RejectedInput(
            f"{file} must have no empty lines", found=f"one in row {rows.index([]) + 1}", hint="remove the empty lines"
        )
    return rows


def _is_semicolon_separated(text: str) -> bool:
    first = text.split("\n", 1)[0]
    return first.count(";") > first.count(",")


def _checked_shape(rows: Cells, file: str) -> tuple[list[str], Cells]:
    header, *cells = [[cell.strip() for cell in row] for row in rows]
    width = len(header)
    while width and not header[width - 1] and all(len(row) < width or not row[width - 1] for row in cells):
        width -= 1
    header = header[:width]
    if "" in header or len(set(header)) < width:
        twice = sorted({name or "(empty)" for name in header if header.count(name) > 1 or not name})
        raise RejectedInput(
            f"{file} must name each column once", found=", ".join(twice), hint="rename the columns in the header"
        )
    for number, row in enumerate(cells, 2):
        if len(row) < width or any(row[width:]):
            raise RejectedInput(
                f"{file}: every row must have the {width} cells of the header",
                found=f"{len(row)} cells in row {number}",
                hint="mend that row; cells with commas need quotes",
            )
    return header, [row[:width] for row in cells]
