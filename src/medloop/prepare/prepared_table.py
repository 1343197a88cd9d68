"""The prepared table on disk: typed columns, the preparer that made them, and the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medloop.case import VALUE_PREFIX, Row
from medloop.prepare.table import TablePreparer
from medloop.storage import atomic_folder, read_json, read_parquet, write_json, write_parquet


@dataclass(frozen=True, kw_only=True)
class PreparedTable:
    """Case ids, labels, and the rows for the preparer."""

    case_ids: list[str]
    labels: list[str]
    rows: list[Row]
    preparer: TablePreparer
    task: dict[str, Any]


def rows_of(table: pd.DataFrame) -> list[Row]:
    """Return the rows of a manifest under the original column names; missing values are None."""
    names = [str(name) for name in table if str(name).startswith(VALUE_PREFIX)]
    columns = [table[name].astype(object).where(table[name].notna(), None).tolist() for name in names]
    plain = [name.removeprefix(VALUE_PREFIX) for name in names]
    return [dict(zip(plain, row, strict=True)) for row in zip(*columns, strict=True)]


def write_prepared(cases: pd.DataFrame, preparer: TablePreparer, task: Mapping[str, Any], folder: Path) -> None:
    """Store the typed columns of the cases."""
    inputs = preparer.prepare(rows_of(cases))
    typed = {VALUE_PREFIX + name: values[:, 0] for name, values in inputs.items()}
    with atomic_folder(folder) as target:
        table = pd.DataFrame({"case_id": cases["case_id"], "label": cases["label"], **typed})
        write_parquet(target / "table.parquet", table)
        write_json(target / "preparer.json", preparer.to_json())
        write_json(target / "task.json", task)


def read_prepared(folder: Path) -> PreparedTable:
    """Read what `write_prepared` stored."""
    table = read_parquet(folder / "table.parquet")
    return PreparedTable(
        case_ids=table["case_id"].tolist(),
        labels=table["label"].tolist(),
        rows=rows_of(table),
        preparer=TablePreparer.from_json(read_json(folder / "preparer.json")),
        task=read_json(folder / "task.json"),
    )
