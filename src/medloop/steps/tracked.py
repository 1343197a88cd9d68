"""Live logging of a stage to MLflow, and the names under which its runs are found again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from medloop.recipe import TrainSection
from medloop.registry.mlflow.epochs import EpochLog
from medloop.steps.project import Project
from medloop.steps.versions import tracker_of
from medloop.storage import read_parquet


def epoch_log(project: Project) -> EpochLog:
    """Return the log for metrics; a smoke run logs nothing, and of many processes only the first one logs."""
    is_first = os.environ.get("RANK", "0") == "0"
    return EpochLog(tracker_of(project) if is_first and not project.smoke else None)


def content_name(project: Project, *what: str) -> str:
    """Return a name for this work on these cases, parts and pixels."""
    from medloop.data import manifest

    recipe = project.recipe
    parts = [
        manifest.fingerprint(project.cases()),
        # Not the file's bytes, which depend on the version of the Parquet library.
        read_parquet(project.work / "splits.parquet").to_csv(index=False),
        recipe.prepare.model_dump_json(),
        repr(recipe.data.positive),
        *what,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def flat_params(name: str, params: Mapping[str, Any], section: TrainSection) -> dict[str, Any]:
    """Return the parameters that a training really uses, one level deep."""
    content = section.model_dump(mode="json")
    augment = {f"train.augment.{key}": value for key, value in content.pop("augment").items()}
    plain = {f"train.{key}": value for key, value in content.items()}
    return {"model_type": name, **{f"{name}_{key}": value for key, value in params.items()}, **plain, **augment}
