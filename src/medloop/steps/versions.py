"""Promotion, rollback and the overview of versions, mirrored in MLflow and object storage.

The store on disk is authoritative, so an MLflow server that is down stops nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from medloop.errors import UserError
from medloop.registry.mirror import mirror_to
from medloop.registry.mlflow.tracking import Tracker, tracker_for
from medloop.registry.store import RESTORE, Champion, ModelStore, Version
from medloop.steps.project import Project, who
from medloop.steps.replay import note_promotion, note_reference
from medloop.storage import read_json


def store_of(project: Project) -> ModelStore:
    """Return the project's model store, with the key that verifies signatures, if one is set."""
    key = project.settings.signing.verify_key
    return ModelStore(project.models, verify_key=project.root / key if key else None)


def tracker_of(project: Project) -> Tracker:
    """Return the client of the project's MLflow."""
    tracking = project.settings.tracking
    return tracker_for(project.root, uri=tracking.uri, experiment=tracking.experiment or project.recipe.name)


def mirror(project: Project, version: Version, champion: Champion | None) -> str:
    """Mirror the version and the champion in MLflow and object storage; return how that went, as part of a sentence."""
    copied = mirror_to(project.settings.mirror, store_of(project))
    return "; ".join(filter(None, (_mirror_in_mlflow(project, version, champion), copied)))


def _mirror_in_mlflow(project: Project, version: Version, champion: Champion | None) -> str:
    tracker, store = tracker_of(project), store_of(project)
    try:
        run = tracker.record(version, promoted=version.verdict.passed)
        serving = champion or store.champion()
        if serving is not None:
            previous = store.version(serving.previous) if serving.previous is not None else None
            tracker.point(store.version(serving.version), previous, store.challenger())
    except UserError as error:
        return f"not mirrored ({error.reason}); `medloop models verify` retries it"
    return f"MLflow run {run[:8]}"


def promote(project: Project, number: int) -> dict[str, Any]:
    """Promote a version; return the champion, and how mirroring went."""
    second_person = project.recipe.gate.second_person
    store = store_of(project)
    repaired = store.repair()
    champion = store.promote(number, by=who(project.settings), second_person=second_person)
    return {**_record(project, champion, kind="promotion"), "repaired": repaired}


def rollback(project: Project) -> dict[str, Any]:
    """Promote the previous champion; return the champion, and how mirroring went."""
    store = store_of(project)
    repaired = store.repair()
    return {**_record(project, store.rollback(by=who(project.settings)), kind="rollback"), "repaired": repaired}


def set_reference(project: Project, number: int) -> dict[str, Any]:
    """Set the version that later ones are compared with; return it, and how mirroring went."""
    store = store_of(project)
    before, reference = store.reference(), store.set_reference(number, by=who(project.settings))
    previous = before.version if before is not None and before.version != number else None
    noted = note_reference(project.root, project.settings.feedback, reference, previous=previous)
    return {**asdict(reference), "previous": previous, "journal": noted, "mirror": _mirrored(project)}


def migrate(project: Project) -> dict[str, Any]:
    """Add to a store of an older medloop what it lacks: the reference version, and signatures of whole versions."""
    store, key = store_of(project), project.settings.signing.key
    reference = store.migrate()
    signed, left = store.sign_anew(key=project.root / key if key else None)
    mirrored = _mirrored(project) if reference is not None or signed else ""
    written = asdict(reference) if reference is not None else None
    return {"reference": written, "signed": signed, "not_signed": left, "mirror": mirrored}


def _mirrored(project: Project) -> str:
    return mirror_to(project.settings.mirror, store_of(project))


def _record(project: Project, champion: Champion, *, kind: str) -> dict[str, Any]:
    noted = note_promotion(project.root, project.settings.feedback, champion, kind=kind)
    version = store_of(project).version(champion.version)
    return {**asdict(champion), "journal": noted, "mirror": mirror(project, version, champion)}


def verify(project: Project) -> list[str]:
    """Verify every version, repair the pointer and the mirrors, and return a line for each."""
    store = store_of(project)
    repaired = store.repair()
    problems = store.verify()
    if problems:
        # A repair that failed is a problem that verify names as well.
        done = [repaired] if repaired and repaired not in problems else []
        raise UserError(f"The model store is damaged: {'; '.join([*done, *problems])}.", RESTORE)
    lines = [
        f"version {version.number} verified; {_mirror_in_mlflow(project, version, None)}"
        for version in store.versions()
    ]
    copied = mirror_to(project.settings.mirror, store)
    return [*filter(None, (repaired,)), *lines, *([f"the champion is {copied}"] if copied else [])]


def overview(project: Project) -> list[dict[str, Any]]:
    """Return one row per version."""
    return [_row(store_of(project), version) for version in store_of(project).versions()]


def _row(store: ModelStore, version: Version) -> dict[str, Any]:
    report, roles = read_json(version.folder / "report" / "report.json"), _roles(store)
    reference = store.reference()
    figure = report.get("test", {}).get("roc_auc", {})
    return {
        "version": str(version.number),
        "serves": roles.get(version.number, ""),
        "gate": "passed" if version.verdict.passed else "refused",
        "model": report.get("model", {}).get("name", ""),
        "test AUC": _auc(figure),
        "edition": version.verdict.edition[:8],
        "reference": "yes" if reference is not None and reference.version == version.number else "",
        "created": version.created,
        "by": version.by,
        "bundle": version.bundle[:12],
    }


def _roles(store: ModelStore) -> dict[int, str]:
    champion, challenger = store.champion(), store.challenger()
    roles = {challenger.number: "challenger"} if challenger is not None else {}
    if champion is not None:
        roles |= {champion.version: "champion"} | ({champion.previous: "previous"} if champion.previous else {})
    return roles


def _auc(figure: dict[str, float | None]) -> str:
    value, lower, upper = (figure.get(name) for name in ("value", "lower", "upper"))
    if value is None:
        return ""
    return f"{value:.3f}" if lower is None or upper is None else f"{value:.3f} [{lower:.3f}, {upper:.3f}]"


def facts_of(project: Project, number: int) -> dict[str, Any]:
    """Return everything known about one version."""
    store = store_of(project)
    version = store.version(number)
    return {
        **asdict(version),
        "folder": str(version.folder.relative_to(project.root)),
        "serves": _roles(store).get(number, ""),
        "card": (version.folder / "card.md").read_text("utf-8"),
    }
