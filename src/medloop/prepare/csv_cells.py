"""Read the cells of a CSV file; odd shapes and characters are errors that name the place."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from medloop.errors import RejectedInput, UserError

Cells = list[list[str]]

# The model computes in 32-bit floats.
MAX_NUMBER = float.fromhex("0x1.fffffep+127")
MAX_CELL = 10_000
SIGNS = "=@+-"


def read_cells(path: Path) -> tuple[list[str], Cells]:
    """Return the header and rows of a CSV file whose shape is valid."""
    if not path.is_file():
        raise UserError(f"{path.name} is not a file.", "Give the path of a CSV file.")
    return cells_in(path.read_bytes(), path.name)


def cells_in(content: bytes, name: str) -> tuple[list[str], Cells]:
    """Return the header and rows in the content of a CSV file; `name` is its name in errors."""
    rows = _rows(_decoded(content, name), name)
    if len(rows) < 2:
        problem = f"{name} has {len(rows)} lines, and needs a header and at least one row."
        raise RejectedInput(problem, "Export the table again.")
    return _checked_shape(rows, name)


def is_number(text: str) -> bool:
    """Return whether the text is a number; infinities count, underscores do not."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def finite_number(text: str, *, column: str, row: int) -> float:
    """Return the finite number in a cell."""
    value = float(text) if is_number(text) else math.nan
    if not abs(value) <= MAX_NUMBER:
        raise RejectedInput(
            f"Column '{column}' has {text[:40]!r} in row {row}, which is not a finite number.",
            "Correct the cell, list it in `data.missing`, or name the column in `data.categories` or `data.drop`.",
        )
    return value


def unsafe_text(text: str) -> str | None:
    """Return why a text is unsafe to show or store, if it is; a lone sign is a finding (`+`, `--`), not a formula."""
    if len(text) > MAX_CELL:
        return f"a text of more than {MAX_CELL:,} characters"
    if not text.isprintable():
        return "an invisible character"
    is_formula = text.startswith(tuple(SIGNS)) and text.strip(SIGNS) and not is_number(text)
    return "a formula" if is_formula else None


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RejectedInput(f"{name} is not UTF-8 in line {line}.", "Save it as CSV UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise RejectedInput(f"{name} has a NUL byte in line {line}.", "Export the table again.")
    return text


def _rows(text: str, file: str) -> Cells:
    delimiter = ";" if _is_semicolon_separated(text) else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RejectedInput(
            f"{file} is not valid CSV in line {reader.line_num} ({error}).", "Check its quotes."
        ) from error
    while rows and not rows[-1]:
        rows.pop()
    # If it were skipped, later rows would have other numbers than in a spreadsheet.
    if [] in rows:
        raise RejectedInput(f"{file} has an empty line in row {rows.index([]) + 1}.", "Remove the empty lines.")
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
            f"{file} has empty or duplicate column names: {', '.join(twice)}.", "Rename the columns in the header."
        )
    for number, row in enumerate(cells, 2):
        if len(row) < width or any(row[width:]):
            raise RejectedInput(
                f"{file} has {len(row)} cells in row {number} and {width} columns in the header.",
                "Correct that row; cells with commas need quotes.",
            )
    return header, [row[:width] for row in cells]
