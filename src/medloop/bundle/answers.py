"""Answers as a CSV or Parquet file, written a few at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from medloop.errors import UserError
from medloop.storage import atomic_file

ROWS_AT_ONCE = 10_000
BEFORE, AFTER = ("case", "file", "row", "label", "abstained", "reason", "rejected"), ("bundle",)
OF_PATIENTS = ("patient", *BEFORE)

Line = dict[str, Any]
Lines = Callable[[], Iterator[Line]]


def write_csv(lines: Lines, before: Sequence[str], shares: Sequence[str], out: Path) -> None:
    """One line an answer."""
    with atomic_file(out, "w") as file:
        writer = csv.DictWriter(file, fieldnames=[*before, *shares, *AFTER])
        writer.writeheader()
        writer.writerows(lines())


def write_parquet(lines: Lines, before: Sequence[str], shares: Sequence[str], out: Path) -> None:
    """One row an answer, with the same types whatever the answers are."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow", found="it is not installed", hint="write .csv, or pip install 'medloop[train]'"
        ) from error
    kinds = {"row": pa.int64(), "abstained": pa.bool_(), **dict.fromkeys(shares, pa.float64())}
    names = [*before, *shares, *AFTER]
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    rows = lines()
    with atomic_file(out) as file, pa.parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


Writer = Callable[[Lines, Sequence[str], Sequence[str], Path], None]
WRITERS: dict[str, Writer] = {".csv": write_csv, ".parquet": write_parquet}
