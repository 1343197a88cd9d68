"""Strict parsing of JSON bodies: duplicate keys, NaN, infinities and deep nesting are refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from medloop.errors import RejectedInput
from medloop.serve.http.refusals import SEE_DOCS, TooLarge

Model = TypeVar("Model", bound=BaseModel)

MAX_KEYS = 10_000
MAX_VALUES = 1_000_000
# One object for each record, and some brackets in strings.
MAX_BRACKETS = 100_000
# For an entry of a dict, its number, and the copies that validation makes.
VALUE_BYTES = 200


def validate(content: Any, model: type[Model]) -> Model:
    """Return a JSON value as an instance of the model."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            {**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False, include_input=False)
        ]
        raise RequestValidationError(problems) from error


def parse(content: bytes) -> Any:
    """Return the JSON value of a body."""
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
    except RecursionError as error:
        raise RejectedInput("The JSON body is nested too deeply.", "Send records of plain values.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RejectedInput("The body is not JSON in UTF-8.", SEE_DOCS) from error
    except ValueError as error:  # Python does not parse integers of several thousand digits.
        raise RejectedInput("A number has too many digits to be read.", "Send a finite number.") from error


def memory_to_parse(content: bytes) -> int:
    """Return about the most memory that parsing takes: the strings once more, and an object for each value."""
    brackets = content.count(b"[") + content.count(b"{")
    if brackets > MAX_BRACKETS:
        raise _too_many(f"{brackets:,} lists and objects", MAX_BRACKETS)
    values = content.count(b",") + brackets
    if values > MAX_VALUES:
        raise _too_many(f"{values:,} values", MAX_VALUES)
    return 2 * len(content) + VALUE_BYTES * values


def _too_many(count: str, limit: int) -> TooLarge:
    return TooLarge(f"The JSON body has {count}; at most {limit:,} are allowed.", "Send less at once.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise RejectedInput(
            f"A JSON object has {len(pairs):,} keys; at most {MAX_KEYS:,} are allowed.", "Send fewer columns."
        )
    content = dict(pairs)
    if len(content) < len(pairs):
        raise RejectedInput(f"Duplicate key '{_first_duplicate(pairs)[:40]}' in a JSON object.", "Send each key once.")
    return content


def _first_duplicate(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _constant(name: str) -> NoReturn:
    raise RejectedInput(f"{name} is not a finite number.", "Send null where a value is unknown.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _constant(text[:40])
    return value
