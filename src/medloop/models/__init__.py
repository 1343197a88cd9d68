"""MODELS: table estimators and image backbones by name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from medloop.errors import UnknownName, UserError
from medloop.models import image, table


@dataclass(frozen=True)
class Model:
    """One entry: how to build it, what it learns from, and whether its numbers are scaled first."""

    build: Callable[..., Any]
    learns: Literal["table", "image"]
    scaled: bool = False

    @property
    def says(self) -> str:
        """The entry's sentence for help texts and tables."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """The hyperparameters and their defaults."""
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
    """The entry of this name."""
    if name not in MODELS:
        raise UnknownName("model.name", name, MODELS)
    return MODELS[name]


def hyperparameters(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters of the model, those of the recipe checked against their types."""
    model = find_model(name)
    kinds = typing.get_type_hints(model.build, include_extras=True)
    checked = model.defaults
    for key, value in params.items():
        if key not in checked:
            raise UnknownName("a hyperparameter", key, [*model.defaults, "name"], where=f"model ({name})")
        try:
            checked[key] = TypeAdapter(kinds[key]).validate_python(_no_boolean(value))
        except ValidationError as error:
            problem = error.errors()[0]
            raise UserError(
                f"model.{key} must fit {name}", found=f"{value!r}: {problem['msg']}", hint="mend it in params.yaml"
            ) from error
    return checked


def _no_boolean(value: Any) -> Any:
    """No hyperparameter is a yes or no, and pydantic takes True for 1."""
    return str(value) if isinstance(value, bool) else value
