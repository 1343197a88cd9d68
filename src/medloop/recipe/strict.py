"""Strict reading of YAML: unknown and duplicate keys are refused, with the nearest known name."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from medloop.errors import UnknownName, UserError

MAX_QUOTE = 100


class Strict(BaseModel):
    """A frozen model that accepts no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses duplicate keys, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, *, quote: bool = True) -> dict[str, Any]:
    """Return the mapping in a YAML file, empty for an empty file; errors quote the content only with `quote`."""
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path.name} is not valid YAML in UTF-8: {_describe_yaml(error, quote=quote)}.",
            "Fix that line; each key may appear once, and indentation is by spaces.",
        ) from (error if quote else None)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        found = "a key that is not a string" if isinstance(content, dict) else f"a single {type(content).__name__}"
        raise UserError(f"{path.name} holds {found}.", "Write one `name: value` a line; the README has examples.")
    return content


def validated(model: type[Model], content: Mapping[str, Any], *, where: str, quote: bool = True) -> Model:
    """Return the model made from the content, or raise one error that names every wrong value.

    Values are quoted only with `quote`, since they may be secrets.
    """
    try:
        return model.model_validate(without_empty_sections(model, content))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unknown = next((one for one in problems if one["type"] == "extra_forbidden"), None)
        if unknown is not None:
            raise _unknown_key(model, unknown, where) from (error if quote else None)
        unquoted = any(isinstance(one["input"], bool | date) for one in problems)
        raise UserError(
            f"Invalid values in {where}: {'; '.join(_describe(one, quote=quote) for one in problems)}.",
            "Fix these values"
            + (" (words such as yes, no and on, and dates, need quotes)" if unquoted else "")
            + "; `medloop doctor` checks the file again.",
        ) from (error if quote else None)


def without_empty_sections(model: type[BaseModel], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content without the sections that read as None because all their lines are comments."""
    return {key: value for key, value in content.items() if value is not None or _submodel(model, key) is None}


def _unknown_key(model: type[BaseModel], problem: ErrorDetails, where: str) -> UnknownName:
    *parents, key = problem["loc"]
    section = model
    for parent in parents:
        section = _submodel(section, str(parent)) or section
    place = ".".join([where, *map(str, parents)])
    return UnknownName("key", key, section.model_fields, where=place)


def _submodel(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    if name not in model.model_fields:
        return None
    pending: list[Any] = [model.model_fields[name].annotation]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        pending.extend(get_args(kind))
    return None


def _describe(problem: ErrorDetails, *, quote: bool) -> str:
    place = ".".join(map(str, problem["loc"])) or "the file"
    # reprlib, because nested YAML aliases can expand to more text than fits into memory.
    value = (
        ""
        if not quote or isinstance(problem["input"], dict)
        else f" (got {reprlib.repr(problem['input'])[:MAX_QUOTE]})"
    )
    return f"{place}: {problem['msg']}{value}"


def _describe_yaml(error: Exception, *, quote: bool) -> str:
    """Say what is wrong and where; PyYAML's own message also shows the line, which may hold a secret."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown line"
    if not quote:
        return place
    if isinstance(error, RecursionError):
        return "too many nested brackets"
    if mark is None or not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    return ", ".join(part for part in (error.context, error.problem, place) if part)
