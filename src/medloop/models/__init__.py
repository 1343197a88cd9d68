"""MODELS: table estimators and image backbones by name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medloop.errors import UnknownName, UserError
from medloop.models import image, table


@dataclass(frozen=True)
class Model:
    """One entry: its function, whose keyword arguments are the hyperparameters, and what it learns from.

    The function of a table model returns an estimator, and its numeric columns are scaled first where `scaled` says so.
    The function of an image model returns another one, which makes the `Classifier` for `classes`, `channels`, `size`
    (height and width) and `root` (the project's folder, for files of weights).
    """

    build: Callable[..., Any]
    learns: Literal["table", "image"]
    scaled: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring, for help texts and tables."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """The hyperparameters with their default values."""
        parameters = inspect.signature(self.build).parameters.values()
        return {one.name: one.default for one in parameters if one.name != "seed"}


# Trees behind a scaler lose parity: their thresholds fall between float32 and float64.
MODELS: dict[str, Model] = {
    "logistic_regression": Model(table.logistic_regression, "table", scaled=True),
    "decision_tree": Model(table.decision_tree, "table"),
    "random_forest": Model(table.random_forest, "table"),
    "extra_trees": Model(table.extra_trees, "table"),
    "gradient_boosting": Model(table.gradient_boosting, "table"),
    "svc": Model(table.svc, "table", scaled=True),
    "mlp": Model(table.mlp, "table", scaled=True),
    "backbone": Model(image.backbone, "image"),
}


def find_model(name: str) -> Model:
    """Return the entry of this name."""
    if name not in MODELS:
        raise UnknownName("model.name", name, MODELS)
    return MODELS[name]


def hyperparameters(name: str, params: Mapping[str, Any], *, where: str = "params.yaml") -> dict[str, Any]:
    """Return all hyperparameters of the model, those given checked against the types in its signature."""
    model = find_model(name)
    kinds = typing.get_type_hints(model.build, include_extras=True)
    checked = model.defaults
    for key, value in params.items():
        if key not in checked:
            raise UnknownName("a hyperparameter", key, [*model.defaults, "name"], where=f"model ({name})")
        try:
            checked[key] = _validate(kinds[key], value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            raise UserError(
                f"model.{key} of {name} is {value!r}, which is not accepted: {reason}.",
                f"Correct it in {where}.",
            ) from error
    return checked


def without_weights(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of an image model that loads no weights, for a network that gets others later."""
    return {**params, **({"weights": "none"} if "weights" in find_model(name).defaults else {})}


def _validate(kind: Any, value: Any) -> Any:
    # Only true and false are booleans, and they are nothing else: pydantic would take True for 1, and "yes" for True.
    is_boolean = isinstance(value, bool) or bool in (kind, *typing.get_args(kind))
    adapter = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
    return adapter.validate_python(value, strict=is_boolean or None)
