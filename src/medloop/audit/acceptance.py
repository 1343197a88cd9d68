"""Accepting findings by name: what was found stays as it is, and only what it means for the training is said anew."""

from __future__ import annotations

from pathlib import Path

from medloop.audit.report import AUDIT_PAGE, FINDINGS, accepted_json, findings_section, what_stops
from medloop.audit.result import Audit
from medloop.case import Finding
from medloop.recipe import AuditSection
from medloop.storage import read_json, write_json, write_text


def accept_findings(folder: Path, section: AuditSection) -> Audit | None:
    """Judge the stored findings by the recipe's names; None where the page was not written by this medloop."""
    stored = read_json(folder / FINDINGS)
    findings = tuple(Finding(**{**one, "where": tuple(one["where"])}) for one in stored["findings"])
    audit = Audit(findings=findings, groups=tuple(map(tuple, stored["groups"])))
    before = section.model_copy(update={"accept": tuple(stored["accepted"])})
    text = (folder / AUDIT_PAGE).read_text("utf-8")
    for part in (what_stops, findings_section):
        said = part(audit, before)
        if said not in text:
            return None
        text = text.replace(said, part(audit, section), 1)
    write_text(folder / AUDIT_PAGE, text)
    write_json(folder / FINDINGS, {**stored, **accepted_json(audit, section)})
    return audit
