"""What can be tuned: the hyperparameters of the model and, for images, any value of the section `train`."""

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
    """Return the hyperparameters and the section with the tuned values; a name may be nested, as `augment.rotate`."""
    params = hyperparameters(model.name, model.params)
    learns = find_model(model.name).learns
    content = section.model_dump() if learns == "image" else {}
    for name, value in tuned.items():
        *parents, key = name.split(".")
        section_of = params if name in params else content
        for parent in parents:
            section_of = section_of.get(parent) or {}
        if key not in section_of or isinstance(section_of[key], dict):
            raise UnknownName("a tuned value", name, _known(params, content), where=where)
        section_of[key] = value
    return hyperparameters(model.name, params, where=where), validated(
        TrainSection, content or section.model_dump(), where=where
    )


def _known(params: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    inner = {name: value for name, value in content.items() if isinstance(value, dict)}
    plain = [name for name in content if name not in inner]
    return [*params, *plain, *(f"{name}.{key}" for name, value in inner.items() for key in value)]


def check_tuning(model: ModelSection, section: TrainSection, tune: TuneSection) -> None:
    """Raise for a metric, a name or a range that no trial could use, before the first one runs."""
    if tune.metric not in METRICS:
        raise UnknownName("tune.metric", tune.metric, METRICS)
    if tune.trials and not tune.space:
        raise UserError(
            f"tune.trials is {tune.trials}, but tune.space is empty.",
            "Add the hyperparameters to tune, such as `tune.space: {C: {low: 0.01, high: 100, log: true}}`.",
        )
    params = hyperparameters(model.name, model.params)
    for name, space in tune.space.items():
        if not space.choices and isinstance(value := params.get(name), bool | str):
            raise UserError(
                f"tune.space.{name} is a range of numbers, but {name} of {model.name} is {value!r}.",
                f"List the values to try, such as `{name}: {{choices: {_examples(value)}}}`.",
            )
        for value in _probes(space):
            with_tuned(model, section, {name: value}, where=f"tune.space.{name}")


def _probes(space: SearchRange) -> list[Any]:
    """Return the choices, or the ends of a range and a value between them, which is whole only if the range is."""
    if space.low is None or space.high is None:
        return list(space.choices)
    if space.whole:
        return [int(space.low), int(space.high)]
    return [space.low, space.low + (space.high - space.low) / math.pi, space.high]


def _examples(value: bool | str) -> str:
    return "[true, false]" if isinstance(value, bool) else f"[{value}, ...]"
