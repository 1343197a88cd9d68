"""JSON bodies read strictly: repeated keys, NaN, infinities, and great depth are refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from medloop.errors import RejectedInput

Body = TypeVar("Body", bound=BaseModel)


def read_json(content: bytes | bytearray, model: type[Body]) -> Body:
    """A body as the model."""
    return checked(parse(content), model)


def checked(content: Any, model: type[Body]) -> Body:
    """A JSON value as the model."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            {**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False, include_input=False)
        ]
        raise RequestValidationError(problems) from error


def parse(content: bytes | bytearray) -> Any:
    """The JSON value."""
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
    except RecursionError as error:
        raise RejectedInput(
            "a JSON body must be flat", found="deep nesting", hint="send records of plain values"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RejectedInput("the body must be JSON in UTF-8", found="something else", hint="see /docs") from error
    except ValueError as error:  # Python reads no whole number of several thousand digits
        raise RejectedInput("numbers must be finite", found="far too many digits", hint="send a number") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RejectedInput("a key must stand once", found=f"'{twice[:40]}' stands twice", hint="send each key once")
    return content


def _constant(name: str) -> NoReturn:
    raise RejectedInput("numbers must be finite", found=name, hint="send null where a value is unknown")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _constant(text[:40])
    return value
