"""Reading YAML strictly: unknown and repeated keys are refused, with the nearest known name."""

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

QUOTED = 100


class Strict(BaseModel):
    """A frozen model that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML silently keeps the last of two equal keys; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, *, quote: bool = True) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping; secrets are not quoted."""
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path.name} must be valid YAML in UTF-8",
            found=_describe_yaml(error, quote=quote),
            hint="mend the line that is named; keys stand once, indented with spaces",
        ) from (error if quote else None)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(
            f"{path.name} must hold sections of `name: value`",
            found="a key that is no text" if isinstance(content, dict) else f"one {type(content).__name__}",
            hint="see the README",
        )
    return content


def validated(model: type[Model], content: Mapping[str, Any], *, where: str, quote: bool = True) -> Model:
    """The model made from the content, or one error that names every place that is wrong; secrets are not quoted."""
    # A section whose lines are all commented out reads as None.
    filled = {key: value for key, value in content.items() if value is not None or _submodel(model, key) is None}
    try:
        return model.model_validate(filled)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unknown = next((one for one in problems if one["type"] == "extra_forbidden"), None)
        if unknown is not None:
            raise _unknown_key(model, unknown, where) from (error if quote else None)
        unquoted = any(isinstance(one["input"], bool | date) for one in problems)
        raise UserError(
            f"{where} must hold values of the right kind",
            found="; ".join(_describe(one, quote=quote) for one in problems),
            hint="mend the values named"
            + ("; words such as yes, no and on, and dates, need quotes" if unquoted else "")
            + "; `medloop doctor` checks the file again",
        ) from (error if quote else None)


def _unknown_key(model: type[BaseModel], problem: ErrorDetails, where: str) -> UnknownName:
    *parents, key = problem["loc"]
    section = model
    for parent in parents:
        section = _submodel(section, str(parent)) or section
    place = ".".join([where, *map(str, parents)])
    return UnknownName("a key", key, section.model_fields, where=place)


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
    place = ".".join(map(str, problem["loc"])) or "the whole"
    # reprlib: an alias of an alias of an alias can stand for more text than fits into the memory.
    value = (
        "" if not quote or isinstance(problem["input"], dict) else f" (found {reprlib.repr(problem['input'])[:QUOTED]})"
    )
    return f"{place}: {problem['msg']}{value}"


def _describe_yaml(error: Exception, *, quote: bool) -> str:
    """What is wrong and where; PyYAML's own text also shows the line, in which a secret may stand."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "some line"
    if not quote:
        return f"{place} cannot be read"
    if isinstance(error, RecursionError):
        return "brackets within brackets without end"
    if mark is None or not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    return ", ".join(part for part in (error.context, error.problem, place) if part)
