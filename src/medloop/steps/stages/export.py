"""Export: the trained model becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medloop.steps.kinds import kind_of
from medloop.steps.kinds.weights import parent_of
from medloop.steps.project import Project, git_commit
from medloop.storage import read_json


def run(project: Project) -> str:
    """Write work/bundle/."""
    from medloop.bundle.export.table import Origin
    from medloop.data import manifest

    origin = Origin(
        name=project.recipe.name,
        recipe=project.recipe.model_dump(mode="json"),
        data_version=manifest.fingerprint(project.cases()),
        edition=read_json(project.work / "edition.json")["id"],
        smoke=project.smoke,
        git_commit=git_commit(project.root),
        parent=parent_of(project),
        facts=recorded_facts(project.work),
    )
    return kind_of(project).export(project, origin)


def recorded_facts(work: Path) -> dict[str, Any]:
    """Return what the stages before the export recorded, by stage."""
    files = {"split": work / "split.json", "tune": work / "tune.json", "train": work / "trained" / "train.json"}
    return {stage: read_json(path) for stage, path in files.items() if path.is_file()}
