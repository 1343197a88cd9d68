"""A route knows the role that it takes, and the hot ones do without FastAPI's slow path."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute

from medloop.feedback import Role
from medloop.serve.access import Access
from medloop.serve.schemas import ErrorBody

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# What a correction or a review may have.
MOST_BYTES = 1_000_000

ROLE = "x-medloop-role"
OPEN = "anybody"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (401, 403, 404, 408, 413, 421, 422, 429, 503)
}
_SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"header": []}, {"browser": []}]
SCHEMES = {
    "key": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "browser": {"type": "http", "scheme": "basic", "description": "any name, and the key as the password"},
}


def takes(role: Role, **extra: Any) -> dict[str, Any]:
    """What the schema says of a route for this role and those above it."""
    return {ROLE: role, "security": _SECURITY, **extra}


def takes_nothing(**extra: Any) -> dict[str, Any]:
    """What the schema says of a route that anybody may ask."""
    return {ROLE: OPEN, "security": [], **extra}


class GuardedRoute(APIRoute):
    """Asks for the role first; a route that names none is for admins."""

    def get_route_handler(self) -> Handler:
        role = (self.openapi_extra or {}).get(ROLE, "admin")
        inner = self.inner_handler()
        if role == OPEN:
            return inner

        async def handle(request: Request) -> Response:
            access: Access = request.app.state.service.access
            request.state.key = await access.admit(request, role)
            return await inner(request)

        return handle

    def inner_handler(self) -> Handler:
        """What answers once the role is there."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.method == "GET":
                return await inner(request)
            # FastAPI would read on for as long as somebody sends.
            with request.app.state.service.bodies.open(request, most=MOST_BYTES) as body:
                request._body = bytes(await body.read())
                return await inner(request)

        return handle


class HotRoute(GuardedRoute):
    """Its function takes the request and gives the response, and nothing stands between."""

    def inner_handler(self) -> Handler:
        return cast("Handler", self.endpoint)
