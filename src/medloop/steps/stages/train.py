"""Train: cross-validation, then the model that is exported."""

from __future__ import annotations

from medloop.errors import UserError
from medloop.recipe import read_yaml
from medloop.steps.kinds import kind_of
from medloop.steps.kinds.decision_cases import print_decision_warnings
from medloop.steps.project import Project
from medloop.storage import read_json


def run(project: Project) -> str:
    """Write work/trained/."""
    _refuse_open_findings(project)
    print_decision_warnings(project)
    tuned = project.work / "tuned.yaml"
    return kind_of(project).train(project, read_yaml(tuned) if tuned.is_file() else {})


def _refuse_open_findings(project: Project) -> None:
    severe = read_json(project.work / "audit" / "findings.json")["open_severe"]
    if severe:
        raise UserError(
            f"The audit has open severe findings: {', '.join(severe)}.",
            f"Open {project.shown('audit/audit.html')}; fix the data, or accept them by name in audit.accept "
            "(the report will say so).",
        )
