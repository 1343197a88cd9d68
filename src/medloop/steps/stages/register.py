"""Register: the bundle becomes a version of the model store, and the champion where the gate passed it."""

from __future__ import annotations

from medloop.steps.project import Project, who
from medloop.steps.replay import note_promotion
from medloop.steps.versions import mirror, store_of


def run(project: Project) -> str:
    """Store the bundle as models/versions/<n>/ and in MLflow, and promote it if the gate passed."""
    from medloop.registry.store import read_verdict

    verdict = read_verdict(project.work / "verdict.json")
    if verdict.smoke:
        return "a smoke run is not registered"
    store, me, key = store_of(project), who(project.settings), project.settings.signing.key
    version = store.register(
        project.work / "bundle", project.work / "report", verdict, by=me, key=project.root / key if key else None
    )
    now = store.champion()
    if now is not None and now.previous == version.number:
        # Somebody rolled it back: a run in which nothing changed must not undo that.
        return f"version {version.number} was rolled back; `medloop models promote {version.number}` promotes it again"
    waits = project.recipe.gate.second_person and (now is None or now.version != version.number)
    champion = store.promote(version.number, by=me) if verdict.passed and not waits else None
    outcome = "promoted: it is now served" if champion else "stored, not promoted"
    if champion is not None and (now is None or now.version != version.number):
        outcome += f", {note_promotion(project.root, project.settings.feedback, champion)}"
    if verdict.passed and waits:
        outcome = f"waits for a second person: `medloop models promote {version.number}`"
    return f"version {version.number} {outcome}; {mirror(project, version, champion)}"
