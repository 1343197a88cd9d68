"""The audit's files: findings.json for programs and audit.html for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from medloop.audit.findings import Audit
from medloop.case import Finding
from medloop.page import render
from medloop.recipe import AuditSection
from medloop.storage import atomic_folder, read_json, write_json, write_text

FINDINGS, AUDIT_PAGE = "findings.json", "audit.html"
# Comments in the page around the part that changes when a finding is accepted.
FINDINGS_START, FINDINGS_END = "<!-- findings -->", "<!-- end of findings -->"


def write_files(folder: Path, findings: dict[str, Any], page: str) -> None:
    """Write the findings and the page."""
    with atomic_folder(folder) as target:
        write_json(target / FINDINGS, findings)
        write_text(target / AUDIT_PAGE, page)


def accept_findings(folder: Path, section: AuditSection) -> Audit | None:
    """Apply the names that the recipe accepts to a stored audit; return None where its page has another layout."""
    stored = read_json(folder / FINDINGS)
    findings = tuple(Finding(**{**one, "where": tuple(one["where"])}) for one in stored["findings"])
    audit = Audit(findings=findings, groups=tuple(map(tuple, stored["groups"])))
    before, start, rest = (folder / AUDIT_PAGE).read_text("utf-8").partition(FINDINGS_START)
    _, end, after = rest.partition(FINDINGS_END)
    if not start or not end:
        return None
    write_text(folder / AUDIT_PAGE, before + render("audit/findings.html", **findings_values(audit, section)) + after)
    write_json(folder / FINDINGS, {**stored, **_acceptance(audit, section)})
    return audit


def findings_json(audit: Audit, section: AuditSection) -> dict[str, Any]:
    """Return the audit as plain data."""
    return {
        "findings": [asdict(one) for one in audit.findings],
        **_acceptance(audit, section),
        "groups": [list(group) for group in audit.groups],
        "unchecked": list(audit.unchecked),
    }


def findings_values(audit: Audit, section: AuditSection) -> dict[str, Any]:
    """Return the values of the template `audit/findings.html`."""
    rows = [
        (one.severity, one.name + (" (accepted)" if one.name in section.accept else ""), one.what, one.todo)
        for one in audit.findings
    ]
    return {
        "open_severe": len(audit.open_severe(section)),
        "findings": rows,
    }


def _acceptance(audit: Audit, section: AuditSection) -> dict[str, list[str]]:
    """Return the findings that the recipe accepts, and the severe ones that it does not."""
    return {
        "accepted": sorted({one.name for one in audit.findings if one.name in section.accept}),
        "open_severe": [one.name for one in audit.open_severe(section)],
    }
