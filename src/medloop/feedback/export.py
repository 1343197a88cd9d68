"""Accepted corrections as labelled cases, for the next training."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, Connection, select

from medloop.case import VALUE_PREFIX
from medloop.errors import UserError
from medloop.feedback import tables
from medloop.feedback.inputs import Inputs
from medloop.storage import atomic_file

SOURCE = "corrections"
# The reason stays behind: it is free text, and may name a patient.
COLUMNS = ("case_id", "group_id", "path", "label", "source", "file_sha256", "quarantined")
ORIGIN = ("prediction_id", "predicted", "bundle", "version", "corrected")

Line = dict[str, Any]


def accepted_cases(connection: Connection, inputs: Inputs) -> list[Line]:
    """One case for each input or slice, oldest first, however often it was corrected."""
    corrections, predictions = tables.corrections.c, tables.predictions.c
    query = (
        select(tables.corrections, tables.predictions)
        .join(tables.predictions, predictions.id == corrections.prediction_id)
        .where(corrections.state == "accepted")
        .order_by(corrections.at, corrections.id)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    cases: dict[str, list[Line]] = {}
    for row in connection.execute(query):
        address = row.predictions_input or row.predictions_id
        cases.setdefault(address, _cases(row._mapping, inputs))
    return [case for some in cases.values() for case in some]


def _cases(row: Any, inputs: Inputs) -> list[Line]:
    """One case, or the slices of a patient, who was corrected as a whole."""
    if row["predictions_slices"] is None:
        return [_case(row, inputs, row["predictions_input"])]
    told = {"patient_id": row["predictions_patient"], "group_id": row["predictions_patient"]}
    slices = json.loads(row["predictions_slices"])
    return [
        {**_case(row, inputs, address), "case_id": f"{row['corrections_id']}.{number}", **told}
        for number, (address, _, _) in enumerate(slices)
    ]


def _case(row: Any, inputs: Inputs, address: str) -> Line:
    is_image = row["predictions_kind"] == "image"
    place = inputs.place_of(address) if is_image else None
    values = json.loads(row["predictions_row"]) if row["predictions_row"] is not None else None
    kept = place is not None if is_image else values is not None
    return {
        "case_id": row["corrections_id"],
        "group_id": address,
        "path": place,
        "label": row["corrections_label"],
        "source": SOURCE,
        "file_sha256": address if is_image else None,
        "quarantined": None if kept else "the input is not kept, or not any more",
        "prediction_id": row["predictions_id"],
        "predicted": row["predictions_label"],
        "bundle": row["predictions_bundle"],
        "version": row["predictions_version"],
        "corrected": row["corrections_at"],
        **{f"{VALUE_PREFIX}{name}": value for name, value in (values or {}).items()},
    }


def write_cases(cases: Sequence[Line], out: Path) -> None:
    """Write a CSV or Parquet file."""
    names = list(dict.fromkeys([*COLUMNS, *ORIGIN, *(name for case in cases for name in case)]))
    if out.suffix == ".csv":
        with atomic_file(out, "w") as file:
            writer = csv.DictWriter(file, fieldnames=names, restval="")
            writer.writeheader()
            writer.writerows(cases)
    elif out.suffix == ".parquet":
        _write_parquet(cases, names, out)
    else:
        raise UserError("the file must end in .csv or .parquet", found=out.name, hint="choose one of the two")


def _write_parquet(cases: Sequence[Line], names: Sequence[str], out: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow", found="it is not installed", hint="write .csv, or pip install 'medloop[train]'"
        ) from error
    columns = {name: [case.get(name) for case in cases] for name in names}
    with atomic_file(out) as file:
        pa.parquet.write_table(pa.table({name: _typed(pa, values) for name, values in columns.items()}), file)


def _typed(pa: Any, values: Sequence[Any]) -> Any:
    """Numbers as numbers, and anything else as text, also where nothing is known."""
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    kind = pa.float64() if numbers and any(value is not None for value in values) else pa.string()
    return pa.array([value if value is None or numbers else str(value) for value in values], type=kind)
