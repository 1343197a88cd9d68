"""What every route shares: the role it requires, the errors it may return, and JSON bodies read within limits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from medloop.feedback import Role
from medloop.serve.api.schemas import ErrorBody
from medloop.serve.http.access import Access
from medloop.serve.http.bodies import Bodies
from medloop.serve.http.strict_json import Model, parse, validate

# For a correction or a review.
MAX_REVIEW_BYTES = 1_000_000

ROLE = "x-medloop-role"
OPEN = "anybody"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (401, 403, 404, 408, 413, 421, 422, 429, 503)
}
_SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"header": []}, {"browser": []}]
SCHEMES = {
    "key": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "browser": {"type": "http", "scheme": "basic", "description": "Any user name, and the key as the password."},
}


def requires(role: Role, **extra: Any) -> dict[str, Any]:
    """Return the OpenAPI fields of a route that requires this role or a higher one."""
    return {ROLE: role, "security": _SECURITY, **extra}


def open_to_all(**extra: Any) -> dict[str, Any]:
    """Return the OpenAPI fields of a route that needs no key."""
    return {ROLE: OPEN, "security": [], **extra}


async def admit(request: Request) -> None:
    """Check the caller's key against the role of the route; a route that names no role is for admins only."""
    role = (request.scope["route"].openapi_extra or {}).get(ROLE, "admin")
    if role != OPEN:
        access: Access = request.app.state.service.access
        request.state.key = await access.admit(request, role)


def requires_with_json(role: Role, model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI fields of a route whose body is read by `json_body`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return requires(role, requestBody={"required": True, "content": {"application/json": {"schema": schema}}})


def json_body(model: type[Model]) -> Callable[[Request], Coroutine[Any, Any, Model]]:
    """Return a dependency that reads the body as this model.

    FastAPI itself would read a declared body before the caller is admitted, and without a limit.
    """

    async def read(request: Request) -> Model:
        bodies: Bodies = request.app.state.service.bodies
        with bodies.open(request, max_bytes=MAX_REVIEW_BYTES) as body:
            return validate(parse(await body.read()), model)

    return read
