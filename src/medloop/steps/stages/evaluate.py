"""Evaluate: the bundle is scored on the locked test cases."""

from __future__ import annotations

from medloop.steps.kinds import kind_of
from medloop.steps.project import Project, who
from medloop.storage import read_json, read_parquet


def run(project: Project) -> str:
    """Write work/report/."""
    from medloop.bundle.files import verify
    from medloop.data.edition import tested_rows
    from medloop.data.manifest import cases_of
    from medloop.evaluate.report import evaluate_bundle
    from medloop.evaluate.statements.sentences import headline
    from medloop.evaluate.statements.study import study_facts
    from medloop.evaluate.write import class_view
    from medloop.gate.ledger import LEDGER, bundles_seen, note_look

    parts, findings = read_parquet(project.work / "splits.parquet"), read_json(project.work / "audit/findings.json")
    cases, kind = project.cases(), kind_of(project)
    rows, groups = tested_rows(cases, parts)
    edition = read_json(project.work / "edition.json")["id"]
    note_look(project.work / LEDGER, edition=edition, bundle=verify(project.work / "bundle"), who=who(project.settings))
    report = evaluate_bundle(
        project.work / "bundle",
        cases_of(rows),
        groups,
        project.recipe.evaluate,
        accepted=findings["accepted"],
        files=kind.files_of(project, rows),
        columns={str(name): rows[name].tolist() for name in rows},
        study=study_facts(cases, parts, findings, subgroups=project.recipe.evaluate.subgroups),
        baseline=kind.baseline(project, rows["case_id"].tolist()),
        looks=bundles_seen(project.work / LEDGER, edition),
        edition=edition,
        folder=project.work / "report",
    )
    figures = f"{headline(report)}{class_view.short(report)}"
    return f"{report['n_test']} locked cases: {figures}; see {project.shown('report/report.html')}"
