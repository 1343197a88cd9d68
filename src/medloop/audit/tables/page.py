"""The page and the findings file of a table's audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from medloop.audit.findings import Audit
from medloop.audit.report import findings_json, findings_values, write_files
from medloop.audit.tables.checks import separation
from medloop.data import manifest
from medloop.page import render
from medloop.recipe import AuditSection


def write_table_audit(audit: Audit, cases: pd.DataFrame, section: AuditSection, folder: Path) -> None:
    """Write the findings and the page."""
    write_files(folder, findings_json(audit, section), table_audit_page(audit, cases, section))


def table_audit_page(audit: Audit, cases: pd.DataFrame, section: AuditSection) -> str:
    """Return the page: the findings, the classes and the columns."""
    table = manifest.usable(cases)
    counts = table["label"].value_counts().sort_index()
    return render(
        "audit/tables.html",
        title="Audit of the data",
        lead=f"{len(table)} cases, {len(counts)} classes, {len(manifest.value_columns(table))} columns.",
        unchecked=audit.unchecked,
        classes=[(str(name), str(count), f"{count / len(table):.1%}") for name, count in counts.items()],
        columns=[describe_column(column, table["label"]) for _, column in manifest.values(table).items()],
        **findings_values(audit, section),
    )


def describe_column(column: pd.Series[Any], labels: pd.Series[str]) -> tuple[str, ...]:
    """Return the column's row on the page."""
    name, missing = str(column.name), f"{column.isna().mean():.1%}"
    alone = f"{separation(column, labels):.3f}"
    if pd.api.types.is_numeric_dtype(column):
        return name, "number", missing, f"{column.min():g}", f"{column.median():g}", f"{column.max():g}", alone
    common = ", ".join(map(str, column.value_counts().index[:3]))
    return name, f"{column.nunique()} categories", missing, "", common, "", alone
