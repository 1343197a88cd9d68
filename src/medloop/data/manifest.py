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
from medloop.storage import atomic_file, read_parquet

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
# Joined at once, the texts of a column must stay below 2 GB.
ROWS_AT_ONCE = 1_000_000
# They differ from case to case.
DIFFERENT = frozenset({"case_id", "path", "file_sha256", "pixel_sha256"})


def row_sha256(values: Row) -> str:
    """The fingerprint of a row's values, whatever the order of its columns."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def further_columns(columns: Mapping[str, Sequence[str | None]]) -> dict[str, list[Value]]:
    """What is kept beside a case for subgroups: numbers where all that is known is a number, else texts."""
    if taken := sorted(set(columns) & set(COLUMNS)):
        raise UserError(
            "a column of data.columns must have a name that medloop does not use itself",
            found=", ".join(taken),
            hint="rename it in the table; case, patient and source are kept anyway",
        )
    return {name: _numbers_or_texts(texts) for name, texts in columns.items()}


def _numbers_or_texts(texts: Sequence[str | None]) -> list[Value]:
    if all(text is None or is_number(text) for text in texts):
        return [None if text is None else float(text) for text in texts]
    return list(texts)


def completed(cases: pd.DataFrame) -> pd.DataFrame:
    """The manifest with every fixed column, in the order of its case ids."""
    if cases.empty:
        raise UserError("a source must give at least one case", found="none", hint="check data.path in params.yaml")
    missing = {name: None for name in COLUMNS if name not in cases}
    further = [str(name) for name in cases if name not in COLUMNS]
    table = cases.assign(**missing)[[*COLUMNS, *further]].sort_values("case_id", ignore_index=True)
    if repeated := int(table["case_id"].eq(table["case_id"].shift()).sum()):
        raise UserError(
            "every case must have a key of its own",
            found=f"{repeated} keys that stand for several cases",
            hint="choose another data.key, or leave it out",
        )
    return table.astype({name: str for name in COLUMNS if name not in NUMBERS})


def write_cases(cases: pd.DataFrame, path: Path) -> None:
    """Store the manifest."""
    # What hardly repeats would be put into a dictionary and compressed in vain, and nobody asks for the least hash.
    repeated = [str(name) for name in cases if name not in DIFFERENT]
    packed: Any = {str(name): "snappy" if name in repeated else "none" for name in cases}
    with atomic_file(path) as file:
        cases.to_parquet(file, index=False, use_dictionary=repeated, compression=packed, write_statistics=False)


def read_cases(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The manifest, quarantined cases included, or these columns of it."""
    return read_parquet(path, columns)


def usable(cases: pd.DataFrame) -> pd.DataFrame:
    """The cases that are not set aside."""
    return cases[cases["quarantined"].isna()].reset_index(drop=True)


def value_columns(cases: pd.DataFrame) -> list[str]:
    """The names of a table's own columns, in the source's order."""
    return [str(name).removeprefix(VALUE_PREFIX) for name in cases if str(name).startswith(VALUE_PREFIX)]


def values(cases: pd.DataFrame) -> pd.DataFrame:
    """The table's own columns under their own names."""
    names = value_columns(cases)
    return cases[[VALUE_PREFIX + name for name in names]].set_axis(names, axis=1)


def fingerprint(cases: pd.DataFrame) -> str:
    """The data version: SHA-256 over the cases, their content and their labels."""
    digest = hashlib.sha256()
    for name in ("case_id", "file_sha256", "label", "patient_id", "quarantined"):
        column = cases[name]
        digest.update(column.isna().to_numpy().tobytes())
        for start in range(0, len(column), ROWS_AT_ONCE):
            digest.update(b"\0" if start else b"")
            digest.update(_joined(column[start : start + ROWS_AT_ONCE]))
    return digest.hexdigest()


def _joined(texts: pd.Series[Any]) -> Any:
    """The texts with a null between them; by Arrow, since Python would make an object of each."""
    whole: Any = pa.array(texts.fillna(""), pa.string())
    # Earlier releases of Arrow keep the long texts of pandas, and cannot join those.
    array = (whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole).cast(pa.string())
    return pc.binary_join(pa.ListArray.from_arrays([0, len(array)], array), "\0")[0].as_buffer()


def case_of(row: Mapping[str, Any]) -> Case:
    """One row of the manifest as a case."""
    plain: dict[str, Any] = {name: None if pd.isna(value) else value for name, value in row.items()}
    known = ("case_id", "label", "source", "patient_id", "group_id", "path", "quarantined")
    return Case(
        **{name: plain[name] for name in known},
        values={n.removeprefix(VALUE_PREFIX): value for n, value in plain.items() if n.startswith(VALUE_PREFIX)},
    )


def cases_of(rows: pd.DataFrame) -> list[Case]:
    """The rows of the manifest as cases."""
    return [case_of({str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]
