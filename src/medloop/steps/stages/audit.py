"""Audit: the data is examined before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medloop.steps.kinds import kind_of
from medloop.steps.kinds.pictures import CACHE
from medloop.steps.project import Project

if TYPE_CHECKING:
    from medloop.audit.findings import Audit


def run(project: Project) -> str:
    """Write work/audit/findings.json and audit.html."""
    from medloop.data import manifest

    section, kind = project.recipe.audit, kind_of(project)
    reference = manifest.read_cases(project.root / section.reference) if section.reference else None
    result = kind.audit(
        project.root,
        project.cases(),
        section,
        folder=project.work / "audit",
        reference=reference,
        rule=kind.read_rule(project.recipe),
        names=project.settings.show_names,
        cache=project.work / CACHE,
    )
    return _summary(project, result)


def accept(project: Project) -> str:
    """Judge the existing findings again by the names that the recipe accepts now."""
    from medloop.audit.report import accept_findings

    result = accept_findings(project.work / "audit", project.recipe.audit)
    return run(project) if result is None else _summary(project, result)


def _summary(project: Project, result: Audit) -> str:
    counts = {kind: sum(one.severity == kind for one in result.findings) for kind in ("severe", "warning", "note")}
    return ", ".join(_count(n, kind) for kind, n in counts.items()) + f"; see {project.shown('audit/audit.html')}"


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'s' if kind != 'severe' and number != 1 else ''}"
