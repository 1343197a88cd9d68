"""The weights that a training starts from, where these are a file or the champion's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from medloop.bundle import files
from medloop.errors import BrokenBundle, UserError
from medloop.recipe import ModelSection
from medloop.steps.project import Project
from medloop.steps.versions import store_of
from medloop.storage import read_json, sha256_file

CHAMPION = "champion"


def with_weights(project: Project, model: ModelSection, weights: str) -> ModelSection:
    """Return the model with these starting weights; those of the champion are a file of the model store."""
    content = {**model.model_dump(), "weights": _champion_weights(project) if weights == CHAMPION else weights}
    return ModelSection.model_validate(content)


def _champion_weights(project: Project) -> str:
    """Return their path from the project's folder, since it is recorded in the bundle."""
    store = store_of(project)
    champion = store.champion()
    if champion is None:
        raise UserError(
            "model.weights is champion, but no version has been promoted yet.",
            "Start from weights: imagenet, none or a file; a version that the gate passes becomes the champion.",
        )
    bundle = store.version(champion.version).folder / "bundle"
    files.verify(bundle)
    if not (bundle / files.WEIGHTS).is_file():
        raise UserError(
            f"model.weights is champion, but version {champion.version} has no {files.WEIGHTS}: it is no image model.",
            "Start from weights: imagenet, none or a file.",
        )
    return os.path.relpath(bundle / files.WEIGHTS, project.root)


def starting_weights(project: Project) -> dict[str, str]:
    """Return a hash of each set of weights that a training may start from, by its name in the recipe."""
    space = project.recipe.tune.space.get("weights")
    names = {str(name) for name in (project.recipe.model.params.get("weights"), *(space.choices if space else ()))}
    found = {name: project.root / name for name in sorted(names - {CHAMPION}) if (project.root / name).is_file()}
    hashes = {f"the file {name} (model.weights)": sha256_file(path) for name, path in found.items()}
    return {**hashes, **({"the champion (model.weights)": _champion_bundle(project)} if CHAMPION in names else {})}


def _champion_bundle(project: Project) -> str:
    """Return the served bundle; where it was trained here from an earlier champion, that champion's."""
    champion, own = store_of(project).champion(), project.work / "bundle"
    if champion is None:
        return "none"
    with suppress(BrokenBundle):
        if (own / files.META).is_file() and files.verify(own) == champion.bundle:
            meta = read_json(own / files.META)
            # Otherwise a promoted model would be trained again and again, each time from itself.
            if meta["recipe"]["model"].get("weights") == CHAMPION:
                return str(meta["parent"])
    return champion.bundle


def parent_of(project: Project) -> str | None:
    """Return the hash of the bundle whose weights the training started from, if there was one."""
    weights = read_json(project.work / "trained" / "model.json")["params"].get("weights")
    bundle = (project.root / str(weights)).parent
    is_bundle = Path(str(weights)).name == files.WEIGHTS and (bundle / files.META).is_file()
    return files.verify(bundle) if is_bundle else None
