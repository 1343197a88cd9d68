"""Split: test cases, folds and the locked edition."""

from __future__ import annotations

from medloop.steps.kinds.decision_cases import print_decision_warnings
from medloop.steps.project import Project
from medloop.storage import read_json, write_json, write_parquet


def run(project: Project) -> str:
    """Write work/splits.parquet, work/split.json and work/edition.json."""
    from medloop.data.edition import edition_of, locked_cases, read_edition, write_edition
    from medloop.data.split import split_cases
    from medloop.data.split_facts import split_facts

    cases, section = project.cases(), project.recipe.split
    groups = read_json(project.work / "audit" / "findings.json")["groups"]
    path = project.work / "edition.json"
    edition = read_edition(path)
    # The test set may be drawn anew until a bundle has been scored on it, as the audit's findings may require.
    is_locked = edition is not None and _was_scored(project, edition.id)
    locked = locked_cases(edition if is_locked else None, cases, section, smoke=project.smoke)
    splits = split_cases(cases, section, together=groups, locked=locked, smoke=project.smoke)
    edition = edition_of(cases, splits, section, smoke=project.smoke)
    write_parquet(project.work / "splits.parquet", splits)
    facts = split_facts(cases, splits, section, copies=len(groups), smoke=project.smoke)
    write_json(project.work / "split.json", facts)
    write_edition(edition, path)
    print_decision_warnings(project)
    counts = ", ".join(f"{n} {name}" for name, n in splits["part"].value_counts().items())
    left_out = ", ".join(f"{n} left out: {why}" for why, n in splits["why"][splits["why"] != ""].value_counts().items())
    counts += f" ({left_out})" if left_out else ""
    return f"{counts}; {section.folds} folds; edition {edition.id}{' (kept)' if locked else ''}"


def _was_scored(project: Project, edition: str) -> bool:
    """Return whether a bundle was scored on the edition: here, or where the report came from."""
    from medloop.gate.ledger import LEDGER, bundles_seen

    report = project.work / "report" / "report.json"
    return bool(bundles_seen(project.work / LEDGER, edition)) or (
        report.is_file() and bool(read_json(report)["edition"] == edition)
    )
