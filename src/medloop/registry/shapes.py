"""Whether what a file said has the types that were declared for it."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints


def is_as_declared(one: Any) -> bool:
    """Whether each field of a dataclass has its type; neither a bool nor a float is an integer."""
    hints = get_type_hints(type(one))
    return all(type(getattr(one, name)) in _types_of(hint) for name, hint in hints.items())


def _types_of(hint: Any) -> list[Any]:
    """The types that a hint allows, of a container's contents none: `dict[str, Any] | None`."""
    alternatives = get_args(hint) if get_origin(hint) not in (dict, list, tuple) else (hint,)
    return [get_origin(one) or one for one in alternatives or (hint,)]
