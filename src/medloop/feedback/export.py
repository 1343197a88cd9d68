"""Export of accepted corrections as labelled cases, for the next training."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, Connection, select

from medloop.case import VALUE_PREFIX
from medloop.errors import UserError
from medloop.feedback.db import tables
from medloop.feedback.inputs import Inputs
from medloop.storage import atomic_file

SOURCE = "corrections"
# Without the reason: it is free text, and may name a patient.
COLUMNS = ("case_id", "group_id", "path", "label", "source", "file_sha256", "quarantined")
ORIGIN = ("prediction_id", "predicted", "bundle", "version", "corrected")

Case = dict[str, Any]


def accepted_cases(connection: Connection, inputs: Inputs) -> list[Case]:
    """Return a case for each input or slice, oldest first, however often it was corrected."""
    corrections, predictions = tables.corrections.c, tables.predictions.c
    query = (
        select(tables.corrections, tables.predictions)
        .join(tables.predictions, predictions.id == corrections.prediction_id)
        .where(corrections.state == "accepted")
        .order_by(corrections.at, corrections.id)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    cases: dict[str, list[Case]] = {}
    for row in connection.execute(query):
        address = row.predictions_input or row.predictions_id
        cases.setdefault(address, _cases(row._mapping, inputs))
    return [case for some in cases.values() for case in some]


def _cases(row: Any, inputs: Inputs) -> list[Case]:
    """Return the case, or all slices of a patient who was corrected as a whole."""
    if row["predictions_slices"] is None:
        return [_case(row, inputs, row["predictions_input"])]
    patient = {"patient_id": row["predictions_patient"], "group_id": row["predictions_patient"]}
    slices = json.loads(row["predictions_slices"])
    return [
        {**_case(row, inputs, address), "case_id": f"{row['corrections_id']}.{number}", **patient}
        for number, (address, _, _) in enumerate(slices)
    ]


def _case(row: Any, inputs: Inputs, address: str) -> Case:
    is_image = row["predictions_kind"] == "image"
    place = inputs.location(address) if is_image else None
    values = json.loads(row["predictions_row"]) if row["predictions_row"] is not None else None
    kept = place is not None if is_image else values is not None
    return {
        "case_id": row["corrections_id"],
        "group_id": address,
        "path": place,
        "label": row["corrections_label"],
        "source": SOURCE,
        "file_sha256": address if is_image else None,
        "quarantined": None if kept else "the input was not kept, or has expired",
        "prediction_id": row["predictions_id"],
        "predicted": row["predictions_label"],
        "bundle": row["predictions_bundle"],
        "version": row["predictions_version"],
        "corrected": row["corrections_at"],
        **{f"{VALUE_PREFIX}{name}": value for name, value in (values or {}).items()},
    }


def write_cases(cases: Sequence[Case], out: Path) -> None:
    """Write the cases to a CSV or Parquet file."""
    names = list(dict.fromkeys([*COLUMNS, *ORIGIN, *(name for case in cases for name in case)]))
    if out.suffix == ".csv":
        with atomic_file(out, "w") as file:
            writer = csv.DictWriter(file, fieldnames=names, restval="")
            writer.writeheader()
            writer.writerows(cases)
    elif out.suffix == ".parquet":
        _write_parquet(cases, names, out)
    else:
        raise UserError(f"{out.name} does not end in .csv or .parquet.", "Choose one of the two formats.")


def _write_parquet(cases: Sequence[Case], names: Sequence[str], out: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow, which is not installed.", "Write .csv, or run `pip install 'medloop[train]'`."
        ) from error
    columns = {name: [case.get(name) for case in cases] for name in names}
    with atomic_file(out) as file:
        pa.parquet.write_table(pa.table({name: _column_of(pa, values) for name, values in columns.items()}), file)


def _column_of(pa: Any, values: Sequence[Any]) -> Any:
    """Return a column of numbers, or of text where there is anything else or nothing at all."""
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    kind = pa.float64() if numbers and any(value is not None for value in values) else pa.string()
    return pa.array([value if value is None or numbers else str(value) for value in values], type=kind)
