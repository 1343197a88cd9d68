"""The page and the findings file of the audit of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medloop.audit.images.checks import ImageAudit
from medloop.audit.images.messages import COPIES_CHECKED
from medloop.audit.images.plots import class_counts_plot, probes_plot, sizes_plot
from medloop.audit.images.probes import Probe
from medloop.audit.images.shortcuts import column_or_blank
from medloop.audit.report import findings_json, findings_values, write_files
from medloop.data import manifest
from medloop.metrics.intervals.estimate import Interval
from medloop.page import render
from medloop.recipe import AuditSection

PROBE_NAMES = {
    "metadata": "file properties",
    "size_and_format": "size and format",
    "file_name": "file name",
    "border": "borders and corners",
    "histogram": "grey levels",
    "untrained": "untrained network",
}
MONTAGES = {
    "class": "Examples of each class",
    "exact": "Identical images",
    "near": "Copies of an image in another form",
    "odd": "Outliers",
    "doubt": "Doubtful labels",
}
MAX_LABEL_ERRORS = 40


def write_image_audit(audit: ImageAudit, cases: pd.DataFrame, section: AuditSection, folder: Path) -> None:
    """Write the findings and the page."""
    write_files(folder, image_findings_json(audit, section), image_audit_page(audit, cases, section))


def image_findings_json(audit: ImageAudit, section: AuditSection) -> dict[str, Any]:
    """Return the audit as plain data."""
    doubts = [
        {"case": case, "given": given, "suggested": suggested, "quality": quality}
        for case, given, suggested, quality in audit.doubts
    ]
    return {
        **findings_json(audit, section),
        "probes": [_probe_json(probe, section) for probe in audit.probes],
        "label_errors": doubts,
    }


def _probe_json(probe: Probe, section: AuditSection) -> dict[str, Any]:
    return {
        "name": probe.name,
        "macro": asdict(probe.macro),
        "by_class": {label: asdict(one) for label, one in probe.by_class.items()},
        "p_value": probe.p_value,
        "cases": probe.cases,
        "groups": probe.groups,
        "fires": probe.fires(section.shortcut_auc),
    }


def image_audit_page(audit: ImageAudit, cases: pd.DataFrame, section: AuditSection) -> str:
    """Return the page: the findings, the classes, the shortcuts, and the images that a reader must see."""
    table = manifest.usable(cases)
    distinct, classes = table["pixel_sha256"].nunique(), table["label"].nunique()
    return render(
        "audit/images.html",
        title="Audit of the images",
        lead=f"{len(cases)} files, {len(table)} readable, {distinct} distinct images, {classes} classes.",
        shows_names=audit.names,
        copies=COPIES_CHECKED,
        classes=[_describe_class(str(label), rows, len(table)) for label, rows in table.groupby("label")],
        class_plots=[
            (class_counts_plot(table["label"]), "Number of images in each class"),
            (sizes_plot(table), "Image sizes. A class whose sizes differ from the others can be recognized by size."),
        ],
        **_probe_values(audit, section),
        montage_sections=list(_montage_sections(audit)),
        label_errors=[(case, given, suggested, f"{quality:.2f}") for case, given, suggested, quality in audit.doubts][
            :MAX_LABEL_ERRORS
        ],
        **findings_values(audit, section),
    )


def _describe_class(label: str, rows: pd.DataFrame, total: int) -> tuple[str, ...]:
    width, height = rows["width"].astype(float), rows["height"].astype(float)
    patients = rows["patient_id"].dropna().nunique()
    return (
        label,
        str(len(rows)),
        f"{len(rows) / total:.1%}",
        str(rows["pixel_sha256"].nunique()),
        str(patients) if patients else "unknown",
        f"{width.median():.0f} × {height.median():.0f}",
        f"{width.min():.0f} × {height.min():.0f} to {width.max():.0f} × {height.max():.0f}",
        _count_values(rows["mode"]),
        _count_values(column_or_blank(rows, "format")),
    )


def _count_values(column: pd.Series[Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in column.value_counts().items() if name)


def _probe_values(audit: ImageAudit, section: AuditSection) -> dict[str, Any]:
    if not audit.probes:
        return {"probes": []}
    first = audit.probes[0]
    rows = [
        (PROBE_NAMES[probe.name], format_auc(probe.macro), probe.best[0], format_auc(probe.best[1]))
        for probe in audit.probes
    ]
    return {
        "probes": rows,
        "probes_plot": probes_plot(audit.probes, floor=section.shortcut_auc, names=PROBE_NAMES),
        "probes_caption": f"AUC with 95% interval; {first.cases} images in {first.groups} independent groups",
    }


def format_auc(auc: Interval) -> str:
    """Return an AUC with its interval."""
    return f"{auc.value:.3f} [{auc.lower:.3f}, {auc.upper:.3f}]"


def _montage_sections(audit: ImageAudit) -> Iterator[tuple[str, list[tuple[bytes, str]]]]:
    for kind, title in MONTAGES.items():
        images = [(one.jpeg, one.caption) for one in audit.montages if one.kind == kind]
        if images:
            yield title, images
