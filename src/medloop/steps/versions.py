"""Promotions and their mirror in MLflow; the store on disk is the truth, so a server that is away stops nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from medloop.errors import UserError
from medloop.registry.store import RESTORE, Champion, ModelStore, Version
from medloop.registry.tracking import Tracker, tracker_for
from medloop.steps.project import Project, who


def tracker_of(project: Project) -> Tracker:
    """The project's tracking server."""
    tracking = project.settings.tracking
    return tracker_for(project.root, uri=tracking.uri, experiment=tracking.experiment or project.recipe.name)


def mirror(project: Project, version: Version, champion: Champion | None) -> str:
    """Tell MLflow of the version and of what serves; the sentence says how that went."""
    tracker = tracker_of(project)
    try:
        run = tracker.record(version, promoted=version.verdict.passed)
        if champion is not None:
            store = ModelStore(project.models)
            previous = store.version(champion.previous) if champion.previous is not None else None
            tracker.point(store.version(champion.version), previous)
    except UserError as error:
        return f"not mirrored ({error.found}); `medloop models verify` does it later"
    return f"MLflow run {run[:8]}"


def promote(project: Project, number: int) -> dict[str, Any]:
    """Let a version serve; what serves now, and how its mirror went."""
    return _told(project, ModelStore(project.models).promote(number, by=who(project.settings)))


def rollback(project: Project) -> dict[str, Any]:
    """Let the version serve that served before; what serves now, and how its mirror went."""
    return _told(project, ModelStore(project.models).rollback(by=who(project.settings)))


def _told(project: Project, champion: Champion) -> dict[str, Any]:
    version = ModelStore(project.models).version(champion.version)
    return {**asdict(champion), "mirror": mirror(project, version, champion)}


def verify(project: Project) -> list[str]:
    """Every version must be as it was registered; the mirrors of the pointer are repaired, and a line says how."""
    store = ModelStore(project.models)
    problems = store.verify()
    if problems:
        raise UserError(
            "every version must be as it was registered",
            found="; ".join(problems),
            hint=RESTORE,
        )
    champion = store.champion()
    serving = champion.version if champion is not None else None
    return [
        f"version {version.number} is as it was registered; "
        + mirror(project, version, champion if version.number == serving else None)
        for version in store.versions()
    ]


def overview(project: Project) -> list[dict[str, str]]:
    """A line a version."""
    store = ModelStore(project.models)
    champion = store.champion()
    roles = {champion.version: "champion", champion.previous: "previous"} if champion else {}
    return [
        {
            "version": str(version.number),
            "serves": roles.get(version.number, ""),
            "gate": "passed" if version.verdict.passed else "refused",
            "created": version.created,
            "bundle": version.bundle[:12],
        }
        for version in store.versions()
    ]
