"""What a step tells MLflow while it works, and the names by which it is found again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from medloop.recipe import TrainSection
from medloop.registry.epochs import EpochLog
from medloop.steps.project import Project
from medloop.steps.versions import tracker_of
from medloop.storage import read_parquet


def epoch_log(project: Project) -> EpochLog:
    """Figures on their way to MLflow; none of a smoke run, and of many processes only those of the first."""
    is_first = os.environ.get("RANK", "0") == "0"
    return EpochLog(tracker_of(project) if is_first and not project.smoke else None)


def content_name(project: Project, *what: str) -> str:
    """A name for doing this with these cases, parts and pixels."""
    from medloop.data import manifest

    recipe = project.recipe
    parts = [
        manifest.fingerprint(project.cases()),
        # Not the file's bytes: other versions of its library write others.
        read_parquet(project.work / "splits.parquet").to_csv(index=False),
        recipe.prepare.model_dump_json(),
        repr(recipe.data.positive),
        *what,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def flat_params(name: str, params: Mapping[str, Any], section: TrainSection) -> dict[str, Any]:
    """What a training really uses, one level deep."""
    content = section.model_dump(mode="json")
    augment = {f"train.augment.{key}": value for key, value in content.pop("augment").items()}
    plain = {f"train.{key}": value for key, value in content.items()}
    return {"model_type": name, **{f"{name}_{key}": value for key, value in params.items()}, **plain, **augment}
