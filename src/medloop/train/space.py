"""What tuning may change: the hyperparameters of the model and, for images, any value of the section `train`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medloop.errors import UnknownName, UserError
from medloop.metrics import METRICS
from medloop.models import find_model, hyperparameters
from medloop.recipe import ModelSection, SearchRange, TrainSection, TuneSection, validated


def with_tuned(
    model: ModelSection, section: TrainSection, tuned: Mapping[str, Any], *, where: str = "tuned.yaml"
) -> tuple[dict[str, Any], TrainSection]:
    """The hyperparameters and the section with tuned values put in; `augment.rotate` names a field of a field."""
    params = hyperparameters(model.name, model.params)
    learns = find_model(model.name).learns
    content = section.model_dump() if learns == "image" else {}
    for name, value in tuned.items():
        *parents, key = name.split(".")
        home = params if name in params else content
        for parent in parents:
            home = home.get(parent) or {}
        if key not in home or isinstance(home[key], dict):
            raise UnknownName("a tuned value", name, _known(params, content), where=where)
        home[key] = value
    return hyperparameters(model.name, params), validated(TrainSection, content or section.model_dump(), where=where)


def _known(params: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    inner = {name: value for name, value in content.items() if isinstance(value, dict)}
    plain = [name for name in content if name not in inner]
    return [*params, *plain, *(f"{name}.{key}" for name, value in inner.items() for key in value)]


def check_tuning(model: ModelSection, section: TrainSection, tune: TuneSection) -> None:
    """Refuse a metric, a name or a range that no trial could use, before the first one runs."""
    if tune.metric not in METRICS:
        raise UnknownName("tune.metric", tune.metric, METRICS)
    if tune.trials and not tune.space:
        raise UserError(
            "tuning needs ranges",
            found="tune.space is empty",
            hint="add `tune.space: {C: {low: 0.01, high: 100, log: true}}` with names that the model has",
        )
    for name, space in tune.space.items():
        for value in _probes(space):
            with_tuned(model, section, {name: value}, where=f"tune.space.{name}")


def _probes(space: SearchRange) -> list[Any]:
    """The ends of a range and one value between them, which is whole only where all are."""
    if space.low is None or space.high is None:
        return list(space.choices)
    if space.whole:
        return [int(space.low), int(space.high)]
    return [space.low, space.low + (space.high - space.low) / math.pi, space.high]
