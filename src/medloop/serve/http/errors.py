"""Errors over HTTP: one form, with a trace id, and never a path, a stack or a patient's data."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from medloop.errors import UserError
from medloop.serve.http.refusals import SEE_DOCS

log = logging.getLogger("medloop.serve")

# With `Basic`, a browser asks for the password.
CHALLENGE = 'Basic realm="medloop: any name, and the key as the password", charset="UTF-8"'


def install(app: FastAPI) -> None:
    """Register the handlers of expected errors; the guard handles all others."""

    async def respond(request: Request, error: Exception) -> JSONResponse:
        return error_response(request.scope, error)

    for kind in (UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)


def error_response(scope: Scope, error: Exception) -> JSONResponse:
    """Return the response to any error; that to a bug does not quote it."""
    if isinstance(error, UserError):
        return _user_error_response(scope, error)
    if isinstance(error, RequestValidationError):
        problems = "; ".join(f"{format_path(one['loc'])}: {one['msg']}" for one in error.errors()[:5])
        return _json_response(scope, 422, error="InvalidRequest", message=problems, hint=SEE_DOCS)
    if isinstance(error, HTTPException):
        return _json_response(scope, error.status_code, error="HTTP", message=f"{error.detail}.", hint="See /docs.")
    return _json_response(
        scope, 500, error="Bug", message="The service failed.", hint="Report the trace id to the operator."
    )


def format_path(location: tuple[int | str, ...]) -> str:
    """Return a path within the body as text: body.records.0.age."""
    return ".".join(str(part)[:100] for part in location)


def _user_error_response(scope: Scope, error: UserError) -> JSONResponse:
    status, name = error.http_status, type(error).__name__
    response = _json_response(scope, status, error=name, message=error.problem, hint=error.hint)
    if status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE
    if status in (429, 503):
        response.headers["Retry-After"] = str(getattr(error, "retry_after", 5))
    return response


def _json_response(scope: Scope, status: int, *, error: str, message: str, hint: str) -> JSONResponse:
    """Return the error as JSON, and log it with its trace id but without its message."""
    trace = scope["state"]["trace"]
    log.warning("refused", extra={"status": status, "error": error, "trace": trace})
    content: dict[str, Any] = {"error": error, "message": message, "hint": hint, "trace_id": trace}
    # A name sent with half a surrogate pair is quoted in the message and has no UTF-8.
    return JSONResponse({key: text.encode("utf-8", "replace").decode() for key, text in content.items()}, status)
