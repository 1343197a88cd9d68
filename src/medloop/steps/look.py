"""Looking at a data set where there is no project."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from medloop.prepare.rule import DecodeRule
from medloop.recipe import AuditSection, DataSection
from medloop.settings import load_settings
from medloop.steps.stages import examine, places_of

FOLDER = "medloop-audit"
# They say nothing where there are no classes.
ABOUT_CLASSES = ("small_class", "no_probes")
SOURCES = {".csv": "csv", ".npz": "medmnist"}


def audit_path(root: Path, path: str, *, label: str | None, class_pattern: str | None) -> str:
    """Audit a CSV file, a folder of images or a MedMNIST file; the findings are written beside and told."""
    from medloop.data import read_source
    from medloop.data.unlabelled import NO_CLASS, read_any_folder

    source = SOURCES.get(Path(path).suffix.lower(), "folder")
    data = DataSection(source=source, path=path, label=label, class_pattern=class_pattern)
    # A key that is thrown away: patients are told apart in this audit and nowhere else.
    places = places_of(root, load_settings(root), raw=root / FOLDER / "raw", key=secrets.token_bytes(32))
    # Of a file of many frames the middle one shows what there is to see.
    rule = DecodeRule(frame="middle")
    read = read_any_folder if source == "folder" else read_source
    cases = read(data, replace(places, rule=rule))
    result = examine(root, cases, AuditSection(), folder=root / FOLDER / "report", rule=rule)
    unlabelled = bool((cases["label"] == NO_CLASS).all())
    told = [one for one in result.findings if not (unlabelled and one.name in ABOUT_CLASSES)]
    lines = [f"{one.severity:<8} {one.name}: {one.what}\n         {one.todo}" for one in told]
    if unlabelled:
        lines.append("No class folders: labels were not examined.")
    return "\n".join([*lines, f"{len(cases)} cases; the page is {FOLDER}/report/audit.html"])
