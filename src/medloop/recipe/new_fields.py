"""Recipe values that were recorded before the recipe had all the fields it has now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medloop.recipe.recipe import Recipe


def fill_new_fields(before: Mapping[str, Any], now: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return recorded values by field name, with fields that are new since and hold their default today filled in.

    `now` holds the same kind of values for `recipe`. A field that was not recorded did not exist, so what was done then
    was done as its default says, and nothing needs to run again.
    """
    filled = dict(before)
    for name, value, field in _fields(recipe, ""):
        if name not in now:
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            if isinstance(before.get(name), list):
                filled[name] = [_with_defaults(item, type(value[0])) for item in before[name]]
        elif value == field.get_default(call_default_factory=True) and not _is_recorded(name, before):
            filled[name] = now[name]
    return filled


def _fields(model: BaseModel, prefix: str) -> Iterator[tuple[str, Any, FieldInfo]]:
    """Yield every field below a model with its full name and value."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and any(isinstance(one, BaseModel) for one in value.values()):
            for key, one in value.items():
                yield from _fields(one, f"{prefix}{name}.{key}.")
        else:
            yield f"{prefix}{name}", value, field


def _is_recorded(name: str, before: Mapping[str, Any]) -> bool:
    """Return whether a field, something within it, or a section around it that had a single value was recorded."""
    return any(one == name or one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in before)


def _with_defaults(item: Any, model: type[BaseModel]) -> Any:
    if not isinstance(item, Mapping):
        return item
    defaults = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    return {**defaults, **item}
