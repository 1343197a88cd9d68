"""JSON bodies read strictly: repeated keys, NaN, infinities, and great depth are refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from medloop.errors import RejectedInput
from medloop.serve.refusals import TooLarge

Body = TypeVar("Body", bound=BaseModel)

MAX_KEYS = 10_000
MAX_VALUES = 1_000_000
# An object for each record, and some brackets in texts.
MAX_BRACKETS = 100_000
# An entry of a dict, its number, and the copies that validation makes.
VALUE_BYTES = 200


def checked(content: Any, model: type[Body]) -> Body:
    """A JSON value as the model."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            {**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False, include_input=False)
        ]
        raise RequestValidationError(problems) from error


def parse(content: bytes) -> Any:
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


def memory_for(content: bytes) -> int:
    """About the most that the value of some JSON takes beside it: its texts again, and an object for each value."""
    brackets = content.count(b"[") + content.count(b"{")
    if brackets > MAX_BRACKETS:
        raise TooLarge(
            f"a JSON body has at most {MAX_BRACKETS:,} lists and objects",
            found=f"{brackets:,}",
            hint="send less at once",
        )
    values = content.count(b",") + brackets
    if values > MAX_VALUES:
        raise TooLarge(f"a JSON body has at most {MAX_VALUES:,} values", found=f"{values:,}", hint="send less at once")
    return 2 * len(content) + VALUE_BYTES * values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise RejectedInput(
            f"a JSON object has at most {MAX_KEYS:,} keys", found=f"{len(pairs):,}", hint="send fewer columns"
        )
    content = dict(pairs)
    if len(content) < len(pairs):
        raise RejectedInput(
            "a key must stand once", found=f"'{_repeated(pairs)[:40]}' stands twice", hint="send each key once"
        )
    return content


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _constant(name: str) -> NoReturn:
    raise RejectedInput("numbers must be finite", found=name, hint="send null where a value is unknown")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _constant(text[:40])
    return value
