"""Prepare: every case becomes the model's input, once."""

from __future__ import annotations

from medloop.steps.kinds import kind_of
from medloop.steps.project import Project


def run(project: Project) -> str:
    """Write work/prepared/."""
    return kind_of(project).prepare(project)
