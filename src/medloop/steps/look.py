"""An audit without a project, and the file of a case."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medloop.decode.rule import DecodeRule
from medloop.errors import UserError
from medloop.recipe import AuditSection, DataSection
from medloop.settings import load_settings
from medloop.steps.kinds import kind_of_cases
from medloop.steps.kinds.kind import AuditContext
from medloop.steps.kinds.pictures import derived_summaries
from medloop.steps.stages.ingest import places_of
from medloop.storage import read_parquet
from medloop.storage.names import local_path, visible

FOLDER = "medloop-audit"
CASES = "cases.parquet"
# These findings mean nothing where there are no classes.
ABOUT_CLASSES = ("small_class", "no_probes")


def audit_path(root: Path, path: str, *, label: str | None, class_pattern: str | None) -> str:
    """Audit a CSV file, a folder of images or a MedMNIST file; write the findings and return them as text."""
    from medloop.data import manifest, read_source, source_for
    from medloop.data.sources.unlabelled import NO_CLASS, read_any_folder

    source = source_for(path)
    data = DataSection(source=source, path=path, label=label, class_pattern=class_pattern)
    # The key is discarded: patients can be distinguished in this audit and nowhere else.
    settings = load_settings(root)
    places = places_of(root, settings, raw=root / FOLDER / "raw", key=secrets.token_bytes(32))
    # The middle frame of a file is the most informative one.
    rule = DecodeRule(frame="middle")
    read = read_any_folder if source == "folder" else read_source
    cache = root / FOLDER / "pictures"
    cases = read(data, replace(places, rule=rule, derived=(derived_summaries(rule),), kept=cache))
    manifest.write_cases(cases, root / FOLDER / CASES)
    context = AuditContext(
        root=root, folder=root / FOLDER / "report", cache=cache, rule=rule, names=settings.show_names
    )
    result = kind_of_cases(cases).audit(cases, AuditSection(), context)
    shutil.rmtree(cache, ignore_errors=True)
    unlabelled = bool((cases["label"] == NO_CLASS).all())
    findings = [one for one in result.findings if not (unlabelled and one.name in ABOUT_CLASSES)]
    lines = [f"{one.severity:<8} {one.name}: {visible(one.what)}\n         {visible(one.todo)}" for one in findings]
    if unlabelled:
        lines.append("No class folders: labels were not examined.")
    lines.append(f"{len(cases)} cases; the page is {FOLDER}/report/audit.html")
    if source != "csv" and not settings.show_names:
        lines.append("Cases are shown by id; `medloop cases ID` prints the file.")
    return "\n".join(lines)


def find_cases(root: Path, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return the id and the file of each case whose id begins like one of these, in the project and the last audit."""
    work = root / load_settings(root).work
    places = [path for path in (work / CASES, work / "smoke" / CASES, root / FOLDER / CASES) if path.is_file()]
    if not places:
        raise UserError("No cases here: neither ingest nor audit has run in this folder.", "Run `medloop ingest`.")
    found: dict[str, str] = {}
    for path in places:
        cases = read_parquet(path, ("case_id", "path"))
        for wanted in ids:
            some = cases[cases["case_id"].str.startswith(wanted)]
            found |= dict(zip(some["case_id"], some["path"].fillna(""), strict=True))
    if lost := [wanted for wanted in ids if not any(one.startswith(wanted) for one in found)]:
        raise UserError(
            f"No case with id {visible(lost[0])} ({len(lost)} of {len(ids)} ids are unknown).",
            "Ids are in findings.json, audit.html and the output of `medloop predict`; run this in the folder where "
            "they were written.",
        )
    return [(one, visible(local_path(path)) or "a row of the table") for one, path in found.items()]
