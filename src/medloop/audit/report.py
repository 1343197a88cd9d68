"""findings.json for programs, audit.html for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medloop import page
from medloop.audit.table import Audit, separation
from medloop.data import manifest
from medloop.recipe import AuditSection
from medloop.storage import atomic_folder, write_json, write_text

FINDINGS, AUDIT_PAGE = "findings.json", "audit.html"
ROWS_LOOKED_FOR = (
    "Looked for: rows that are equal, and rows whose numbers all lie within 0.005 standard deviations, "
    "or less where chance alone brings rows that close. Not looked for:"
)


def write_audit(audit: Audit, cases: pd.DataFrame, section: AuditSection, folder: Path) -> None:
    """Store the findings and the page."""
    with atomic_folder(folder) as target:
        write_json(target / FINDINGS, findings_json(audit, section))
        write_text(target / AUDIT_PAGE, audit_page(audit, cases, section))


def findings_json(audit: Audit, section: AuditSection) -> dict[str, Any]:
    """The audit as plain data."""
    return {
        "findings": [asdict(one) for one in audit.findings],
        **accepted_json(audit, section),
        "groups": [list(group) for group in audit.groups],
        "unchecked": list(audit.unchecked),
    }


def accepted_json(audit: Audit, section: AuditSection) -> dict[str, list[str]]:
    """Which findings the recipe accepts, and which severe ones it does not."""
    return {
        "accepted": sorted({one.name for one in audit.findings if one.name in section.accept}),
        "open_severe": [one.name for one in audit.open_severe(section)],
    }


def what_stops(audit: Audit, section: AuditSection) -> str:
    """Whether the training may begin."""
    stopped = len(audit.open_severe(section))
    return f"{stopped} severe findings stop the training." if stopped else "Nothing found stops the training."


def findings_section(audit: Audit, section: AuditSection) -> str:
    """The page's part on what was found, and on what of it is accepted."""
    lines = [
        (one.severity, one.name + (" (accepted)" if one.name in section.accept else ""), one.what, one.todo)
        for one in audit.findings
    ]
    header = ("severity", "name", "what was found", "what to do")
    return page.section("Findings", page.table(header, lines, badges=True) if lines else page.paragraph("None."))


def audit_page(audit: Audit, cases: pd.DataFrame, section: AuditSection) -> str:
    """What was found, in words that a doctor reads."""
    table = manifest.usable(cases)
    counts = table["label"].value_counts().sort_index()
    lead = f"{len(table)} cases, {len(counts)} classes, {len(manifest.value_columns(table))} columns. " + what_stops(
        audit, section
    )
    return page.page(
        "Audit of the data",
        lead=lead,
        body=[
            findings_section(audit, section),
            page.section("Copies", page.paragraph(f"{ROWS_LOOKED_FOR} {', '.join(audit.unchecked)}.")),
            page.section("Classes", page.table(("class", "cases", "share"), _shares(counts.to_dict()))),
            page.section(
                "Columns",
                page.paragraph(
                    "Alone: how well this column by itself tells the classes apart (AUC; 0.5 is chance).", soft=True
                ),
                page.table(("column", "kind", "missing", "lowest", "median", "highest", "alone"), _columns(table)),
            ),
        ],
    )


def _shares(counts: Mapping[Any, int]) -> list[tuple[str, str, str]]:
    total = sum(counts.values())
    return [(str(name), str(count), f"{count / total:.1%}") for name, count in counts.items()]


def _columns(table: pd.DataFrame) -> list[tuple[str, ...]]:
    values = manifest.values(table)
    lines: list[tuple[str, ...]] = []
    for name in values:
        column = values[name]
        alone = f"{separation(column, table['label']):.3f}"
        missing = f"{column.isna().mean():.1%}"
        if pd.api.types.is_numeric_dtype(column):
            lines.append(
                (str(name), "number", missing, f"{column.min():g}", f"{column.median():g}", f"{column.max():g}", alone)
            )
        else:
            common = ", ".join(map(str, column.value_counts().index[:3]))
            lines.append((str(name), f"{column.nunique()} categories", missing, "", common, "", alone))
    return lines
