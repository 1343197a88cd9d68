"""Errors over HTTP: one form, with a trace id, and never a path, a stack or a patient's data."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from medloop.errors import UserError

log = logging.getLogger("medloop.serve")

# A browser asks for the password where it is told `Basic`.
CHALLENGE = 'Basic realm="medloop: any name, and the key as the password", charset="UTF-8"'


def answer(scope: MutableMapping[str, Any], status: int, *, error: str, message: str, hint: str) -> JSONResponse:
    """The error as JSON; the trace id stands in the log, too."""
    trace = scope["state"]["trace"]
    log.warning("refused", extra={"status": status, "error": error, "trace": trace})
    content = {"error": error, "message": message, "hint": hint, "trace_id": trace}
    # A name sent with half a surrogate pair is quoted in the message and has no UTF-8.
    return JSONResponse({key: text.encode("utf-8", "replace").decode() for key, text in content.items()}, status)


def of_user_error(scope: MutableMapping[str, Any], error: UserError) -> JSONResponse:
    """What its sender can mend."""
    name = type(error).__name__
    response = answer(
        scope, error.http_status, error=name, message=f"{error.must}; found: {error.found}", hint=error.hint
    )
    if error.http_status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    if error.http_status in (429, 503):
        response.headers["Retry-After"] = str(getattr(error, "retry_after", 5))
    return response


def of_invalid(scope: MutableMapping[str, Any], error: RequestValidationError) -> JSONResponse:
    """A request of another form."""
    problems = "; ".join(f"{place(one['loc'])}: {one['msg']}" for one in error.errors()[:5])
    hint = "see /docs for the form of a request"
    return answer(scope, 422, error="InvalidRequest", message=problems, hint=hint)


def of_bug(scope: MutableMapping[str, Any]) -> JSONResponse:
    """What only we can mend."""
    return answer(scope, 500, error="Bug", message="the service failed", hint="report the trace id to the operator")


def install(app: FastAPI) -> None:
    """Give every kind of failure its answer."""

    @app.exception_handler(UserError)
    async def on_user_error(request: Request, error: UserError) -> JSONResponse:
        return of_user_error(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return of_invalid(request.scope, error)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request.scope, error.status_code, error="HTTP", message=str(error.detail), hint="see /docs")

    @app.exception_handler(Exception)
    async def on_bug(request: Request, _: Exception) -> JSONResponse:
        # The guard, which sees it next, writes it down.
        return of_bug(request.scope)


def place(location: tuple[int | str, ...]) -> str:
    """body.records.0.age"""
    return ".".join(str(part)[:100] for part in location)
