"""KINDS: what differs between data of different kinds; the stages ask the kind and never which kind it is."""

from __future__ import annotations

from typing import Any

from medloop.steps.kinds.images import Images
from medloop.steps.kinds.kind import DataKind
from medloop.steps.kinds.tables import Tables
from medloop.steps.project import Project

KINDS: dict[str, DataKind] = {"table": Tables(), "images": Images()}


def kind_of(project: Project) -> DataKind:
    """Return the kind of the project's source."""
    from medloop.data import find_source

    return KINDS[find_source(project.recipe.data.source).gives]


def kind_of_cases(cases: Any) -> DataKind:
    """Return the kind of a manifest, where there is no project."""
    return KINDS["table" if cases["path"].isna().all() else "images"]
