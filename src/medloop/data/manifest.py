"""The manifest (`cases.parquet`): one row a case, wherever the case came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from medloop.case import VALUE_PREFIX, Case, Row, Value
from medloop.errors import UserError
from medloop.prepare.csv_cells import is_number
from medloop.storage import read_parquet, write_parquet

COLUMNS = (
    "case_id",
    "patient_id",
    "group_id",
    "path",
    "label",
    "source",
    "file_sha256",
    "pixel_sha256",
    "width",
    "height",
    "mode",
    "bytes",
    "quarantined",
)


NUMBERS = ("width", "height", "bytes")
# The texts of a column that are joined at once stay below 2 GB.
ROWS_AT_ONCE = 1_000_000
# Columns whose values are all different.
UNIQUE_COLUMNS = frozenset({"case_id", "path", "file_sha256", "pixel_sha256"})


def row_sha256(values: Row) -> str:
    """Return the hash of a row's values, independent of the order of its columns."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def subgroup_columns(columns: Mapping[str, Sequence[str | None]]) -> dict[str, list[Value]]:
    """Return the columns of `data.columns`: numbers if all known values are numbers, else texts."""
    if taken := sorted(set(columns) & set(COLUMNS)):
        raise UserError(
            f"Names in `data.columns` that medloop uses itself: {', '.join(taken)}.",
            "Rename them in the table; case, patient and source are kept anyway.",
        )
    return {name: _numbers_or_texts(texts) for name, texts in columns.items()}


def _numbers_or_texts(texts: Sequence[str | None]) -> list[Value]:
    if all(text is None or is_number(text) for text in texts):
        return [None if text is None else float(text) for text in texts]
    return list(texts)


def complete_manifest(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest with every fixed column, sorted by case id."""
    if cases.empty:
        raise UserError("The source has no cases.", "Check `data.path` in params.yaml.")
    missing = {name: None for name in COLUMNS if name not in cases}
    further = [str(name) for name in cases if name not in COLUMNS]
    table = cases.assign(**missing)[[*COLUMNS, *further]].sort_values("case_id", ignore_index=True)
    if repeated := int(table["case_id"].eq(table["case_id"].shift()).sum()):
        raise UserError(
            f"{repeated} keys are used by several cases.",
            "Choose another `data.key`, or leave it out.",
        )
    return table.astype({name: str for name in COLUMNS if name not in NUMBERS})


def write_cases(cases: pd.DataFrame, path: Path) -> None:
    """Write the manifest."""
    # Unique values gain nothing from a dictionary, compression or statistics.
    repeated = [str(name) for name in cases if name not in UNIQUE_COLUMNS]
    packed: Any = {str(name): "snappy" if name in repeated else "none" for name in cases}
    write_parquet(path, cases, use_dictionary=repeated, compression=packed, write_statistics=False)


def read_cases(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the manifest, quarantined cases included, or these columns of it."""
    return read_parquet(path, columns)


def usable(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the cases that are not quarantined."""
    return cases[cases["quarantined"].isna()].reset_index(drop=True)


def value_columns(cases: pd.DataFrame) -> list[str]:
    """Return the original column names of a table, in the source's order."""
    return [str(name).removeprefix(VALUE_PREFIX) for name in cases if str(name).startswith(VALUE_PREFIX)]


def values(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a table under their original names."""
    names = value_columns(cases)
    return cases[[VALUE_PREFIX + name for name in names]].set_axis(names, axis=1)


def fingerprint(cases: pd.DataFrame) -> str:
    """Return the data version: the SHA-256 of the cases, their content and their labels."""
    digest = hashlib.sha256()
    for name in ("case_id", "file_sha256", "label", "patient_id", "quarantined"):
        column = cases[name]
        digest.update(column.isna().to_numpy().tobytes())
        for start in range(0, len(column), ROWS_AT_ONCE):
            digest.update(b"\0" if start else b"")
            digest.update(_joined(column[start : start + ROWS_AT_ONCE]))
    return digest.hexdigest()


def _joined(texts: pd.Series[Any]) -> Any:
    """Join the texts with a null between them; in Arrow, since Python would make an object of each."""
    whole: Any = pa.array(texts.fillna(""), pa.string())
    # Earlier releases of Arrow keep the large strings of pandas, and cannot join them.
    array = (whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole).cast(pa.string())
    return pc.binary_join(pa.ListArray.from_arrays([0, len(array)], array), "\0")[0].as_buffer()


def case_of(row: Mapping[str, Any]) -> Case:
    """Return a row of the manifest as a case."""
    plain: dict[str, Any] = {name: None if pd.isna(value) else value for name, value in row.items()}
    known = ("case_id", "label", "source", "patient_id", "group_id", "path", "quarantined")
    return Case(
        **{name: plain[name] for name in known},
        values={n.removeprefix(VALUE_PREFIX): value for n, value in plain.items() if n.startswith(VALUE_PREFIX)},
    )


def cases_of(rows: pd.DataFrame) -> list[Case]:
    """Return the rows of the manifest as cases."""
    return [case_of({str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]
