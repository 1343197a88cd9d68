"""Audit: the data is examined before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medloop.steps.kinds import kind_of
from medloop.steps.kinds.kind import AuditContext
from medloop.steps.kinds.pictures import CACHE
from medloop.steps.project import Project
from medloop.wording import plural

if TYPE_CHECKING:
    from medloop.audit.findings import Audit


def run(project: Project) -> str:
    """Write work/audit/findings.json and audit.html."""
    from medloop.data import manifest

    section, kind = project.recipe.audit, kind_of(project)
    reference = manifest.read_cases(project.root / section.reference) if section.reference else None
    context = AuditContext(
        root=project.root,
        folder=project.work / "audit",
        cache=project.work / CACHE,
        rule=kind.read_rule(project.recipe),
        reference=reference,
        names=project.settings.show_names,
    )
    return _summary(project, kind.audit(project.cases(), section, context))


def accept(project: Project) -> str:
    """Judge the existing findings again by the names that the recipe accepts now."""
    from medloop.audit.report import accept_findings

    result = accept_findings(project.work / "audit", project.recipe.audit)
    return run(project) if result is None else _summary(project, result)


def _summary(project: Project, result: Audit) -> str:
    severe, warnings, notes = (
        sum(one.severity == severity for one in result.findings) for severity in ("severe", "warning", "note")
    )
    counts = f"{severe} severe, {plural(warnings, 'warning')}, {plural(notes, 'note')}"
    return f"{counts}; see {project.shown('audit/audit.html')}"
