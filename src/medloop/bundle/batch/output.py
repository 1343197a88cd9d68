"""Writes predictions as a CSV or Parquet file, a few at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from medloop.errors import UserError
from medloop.storage import atomic_file

ROWS_PER_BATCH = 10_000
COLUMNS_BEFORE, COLUMNS_AFTER = ("case", "file", "row", "label", "abstained", "reason", "rejected"), ("bundle",)
PATIENT_COLUMNS_BEFORE = ("patient", *COLUMNS_BEFORE)

Line = dict[str, Any]
Lines = Callable[[], Iterator[Line]]


def write_csv(lines: Lines, before: Sequence[str], shares: Sequence[str], out: Path) -> None:
    """Write one line per prediction."""
    with atomic_file(out, "w") as file:
        writer = csv.DictWriter(file, fieldnames=[*before, *shares, *COLUMNS_AFTER])
        writer.writeheader()
        writer.writerows(lines())


def write_parquet(lines: Lines, before: Sequence[str], shares: Sequence[str], out: Path) -> None:
    """Write one row per prediction, with the same column types whatever the predictions are."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Writing Parquet needs pyarrow, which is not installed.", "Use .csv, or run `pip install 'medloop[train]'`."
        ) from error
    kinds = {"row": pa.int64(), "abstained": pa.bool_(), **dict.fromkeys(shares, pa.float64())}
    names = [*before, *shares, *COLUMNS_AFTER]
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    rows = lines()
    with atomic_file(out) as file, pa.parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, ROWS_PER_BATCH)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


Writer = Callable[[Lines, Sequence[str], Sequence[str], Path], None]
WRITERS: dict[str, Writer] = {".csv": write_csv, ".parquet": write_parquet}
