"""Looking at a data set where there is no project, and at which file a case is."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medloop.errors import UserError
from medloop.prepare.rule import DecodeRule
from medloop.recipe import AuditSection, DataSection
from medloop.settings import load_settings
from medloop.steps.stages import examine, places_of
from medloop.storage import read_parquet
from medloop.storage.names import local_path, visible

FOLDER = "medloop-audit"
CASES = "cases.parquet"
# They say nothing where there are no classes.
ABOUT_CLASSES = ("small_class", "no_probes")
SOURCES = {".csv": "csv", ".npz": "medmnist"}


def audit_path(root: Path, path: str, *, label: str | None, class_pattern: str | None) -> str:
    """Audit a CSV file, a folder of images or a MedMNIST file; the findings are written beside and told."""
    from medloop.data import manifest, read_source
    from medloop.data.unlabelled import NO_CLASS, read_any_folder

    source = SOURCES.get(Path(path).suffix.lower(), "folder")
    data = DataSection(source=source, path=path, label=label, class_pattern=class_pattern)
    # A key that is thrown away: patients are told apart in this audit and nowhere else.
    settings = load_settings(root)
    places = places_of(root, settings, raw=root / FOLDER / "raw", key=secrets.token_bytes(32))
    # Of a file of many frames the middle one shows what there is to see.
    rule = DecodeRule(frame="middle")
    read = read_any_folder if source == "folder" else read_source
    cases = read(data, replace(places, rule=rule))
    manifest.write_cases(cases, root / FOLDER / CASES)
    result = examine(root, cases, AuditSection(), folder=root / FOLDER / "report", rule=rule, names=settings.show_names)
    unlabelled = bool((cases["label"] == NO_CLASS).all())
    told = [one for one in result.findings if not (unlabelled and one.name in ABOUT_CLASSES)]
    lines = [f"{one.severity:<8} {one.name}: {visible(one.what)}\n         {visible(one.todo)}" for one in told]
    if unlabelled:
        lines.append("No class folders: labels were not examined.")
    lines.append(f"{len(cases)} cases; the page is {FOLDER}/report/audit.html")
    if source != "csv" and not settings.show_names:
        lines.append("It names cases by id: `medloop cases ID` gives the file.")
    return "\n".join(lines)


def find_cases(root: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return the id and the file of each case whose id begins like one of these, in the project and the last audit."""
    work = root / load_settings(root).work
    places = [path for path in (work / CASES, work / "smoke" / CASES, root / FOLDER / CASES) if path.is_file()]
    if not places:
        raise UserError("No cases here", found="neither ingest nor audit has run", hint="run `medloop ingest`")
    found: dict[str, str] = {}
    for path in places:
        cases = read_parquet(path, ("case_id", "path"))
        for wanted in ids:
            some = cases[cases["case_id"].str.startswith(wanted)]
            found |= dict(zip(some["case_id"], some["path"].fillna(""), strict=True))
    if lost := [wanted for wanted in ids if not any(one.startswith(wanted) for one in found)]:
        raise UserError(
            f"No case with id {visible(lost[0])}",
            found=f"{len(lost)} unknown ids of {len(ids)}",
            hint="ids stand in findings.json, audit.html and the answers of `medloop predict`; run this where they "
            "were written",
        )
    return [(one, visible(local_path(path)) or "a row of the table") for one, path in found.items()]
