"""The audit of images as findings.json for programs and audit.html for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medloop import page
from medloop.audit import image_plots
from medloop.audit.image_findings import COPIES_LOOKED_FOR, COPIES_NOT_LOOKED_FOR
from medloop.audit.images import ImageAudit
from medloop.audit.probes import Probe
from medloop.audit.report import AUDIT_PAGE, FINDINGS, findings_json, findings_section, what_stops
from medloop.audit.shortcuts import optional
from medloop.data import manifest
from medloop.recipe import AuditSection
from medloop.storage import atomic_folder, write_json, write_text

PROBE_NAMES = {
    "metadata": "file facts",
    "size_and_format": "size and format",
    "file_name": "file name",
    "border": "border and corners",
    "histogram": "grey levels",
    "untrained": "untrained network",
}
NAMED_BY_ID = (
    "Cases are named by their ids, since the names of files may be those of patients. `medloop cases ID` names the "
    "file; with `show_names: true` in config.yaml, `medloop audit` names the files here."
)
MOST_CLASSES = 12
MOST_DOUBTS = 40


def write_image_audit(audit: ImageAudit, cases: pd.DataFrame, section: AuditSection, folder: Path) -> None:
    """Store the findings and the page."""
    with atomic_folder(folder) as target:
        write_json(target / FINDINGS, image_findings_json(audit, section))
        write_text(target / AUDIT_PAGE, image_audit_page(audit, cases, section))


def image_findings_json(audit: ImageAudit, section: AuditSection) -> dict[str, Any]:
    """The audit as plain data."""
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
    """What was found, in words and pictures that a doctor reads."""
    table = manifest.usable(cases)
    different = table["pixel_sha256"].nunique()
    lead = (
        f"{len(cases)} files, {len(table)} readable, {different} different images, {table['label'].nunique()} classes. "
        + what_stops(audit, section)
    )
    return page.page(
        "Audit of the images",
        lead=lead,
        body=[
            findings_section(audit, section),
            *([] if audit.names else [page.paragraph(NAMED_BY_ID, soft=True)]),
            page.section("Copies", page.paragraph(f"{COPIES_LOOKED_FOR} {COPIES_NOT_LOOKED_FOR}")),
            page.section("Classes", _class_table(table), _plots(table)),
            _probes(audit, section),
            *_pictures(audit),
            _doubts(audit),
        ],
    )


def _class_table(table: pd.DataFrame) -> str:
    lines = []
    for label, mine in table.groupby("label"):
        width, height = mine["width"].astype(float), mine["height"].astype(float)
        patients = mine["patient_id"].dropna().nunique()
        lines.append(
            (
                str(label),
                str(len(mine)),
                f"{len(mine) / len(table):.1%}",
                str(mine["pixel_sha256"].nunique()),
                str(patients) if patients else "unknown",
                f"{width.median():.0f} × {height.median():.0f}",
                f"{width.min():.0f} × {height.min():.0f} to {width.max():.0f} × {height.max():.0f}",
                _counted(mine["mode"]),
                _counted(optional(mine, "format")),
            )
        )
    header = ("class", "images", "share", "different", "patients", "median size", "sizes", "modes", "formats")
    return page.table(header, lines)


def _counted(column: pd.Series[Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in column.value_counts().items() if name)


def _plots(table: pd.DataFrame) -> str:
    return page.figures(
        page.figure(image_plots.class_counts(table["label"]), caption="How many images each class has"),
        page.figure(image_plots.sizes(table), caption="Sizes: classes that lie apart can be told without looking"),
    )


def _probes(audit: ImageAudit, section: AuditSection) -> str:
    if not audit.probes:
        return page.section("Shortcuts", page.paragraph("Too few independent images to look for shortcuts."))
    plot = image_plots.forest(audit.probes, floor=section.shortcut_auc, names=PROBE_NAMES)
    lines = [
        (
            PROBE_NAMES[probe.name],
            f"{probe.macro.value:.3f} [{probe.macro.lower:.3f}, {probe.macro.upper:.3f}]",
            probe.best[0],
            f"{probe.best[1].value:.3f} [{probe.best[1].lower:.3f}, {probe.best[1].upper:.3f}]",
        )
        for probe in audit.probes
    ]
    first = audit.probes[0]
    return page.section(
        "Shortcuts",
        page.paragraph(
            "Can the class be told from what has nothing to do with the disease? A simple model tries, on images that "
            "it was not shown before. 0.5 is chance, 1.0 is certainty. File facts, file name and border should say "
            "nothing: in red where they do. Grey levels and the untrained network look at the picture itself, so they "
            "may say something honestly; what they reach is had without any learning, and is the mark to beat."
        ),
        page.figure(plot, caption=f"AUC with 95% intervals, {first.cases} images in {first.groups} independent groups"),
        page.table(("evidence", "AUC, mean of classes", "best told class", "its AUC"), lines),
    )


def _pictures(audit: ImageAudit) -> list[str]:
    sections = []
    for kind, title in (
        ("class", "What the classes look like"),
        ("exact", "Identical pictures"),
        ("near", "The same picture in another form"),
        ("odd", "Odd ones"),
        ("doubt", "Doubtful labels"),
    ):
        mine = [one for one in audit.montages if one.kind == kind]
        if mine:
            sections.append(page.section(title, *(page.figure(one.jpeg, caption=one.caption) for one in mine)))
    return sections


def _doubts(audit: ImageAudit) -> str:
    if not audit.doubts:
        return ""
    lines = [(case, given, suggested, f"{quality:.2f}") for case, given, suggested, quality in audit.doubts]
    return page.section(
        "Labels to read again",
        page.paragraph("From a simple model that had not seen the case. Low quality: doubtful. Most are right."),
        page.table(("file" if audit.names else "case", "given", "looks like", "quality"), lines[:MOST_DOUBTS]),
    )
