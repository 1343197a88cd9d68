"""Errors over HTTP: one form, with a trace id, and never a path, a stack or a patient's data."""

from __future__ import annotations

import logging
import uuid

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from medloop.errors import UserError

log = logging.getLogger("medloop.serve")


def answer(status: int, *, error: str, message: str, hint: str) -> JSONResponse:
    """The error as JSON; the trace id stands in the log, too."""
    trace = uuid.uuid4().hex
    log.warning("%s %s trace=%s", status, error, trace)
    content = {"error": error, "message": message, "hint": hint, "trace_id": trace}
    # A name sent with half a surrogate pair is quoted in the message and has no UTF-8.
    return JSONResponse({key: text.encode("utf-8", "replace").decode() for key, text in content.items()}, status)


def install(app: FastAPI) -> None:
    """Give every kind of failure its answer."""

    @app.exception_handler(UserError)
    async def on_user_error(_: Request, error: UserError) -> JSONResponse:
        name = type(error).__name__
        return answer(error.http_status, error=name, message=f"{error.must}; found: {error.found}", hint=error.hint)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(f"{place(one['loc'])}: {one['msg']}" for one in error.errors()[:5])
        return answer(422, error="InvalidRequest", message=problems, hint="see /docs for the form of a request")

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, error="HTTP", message=str(error.detail), hint="see /docs")

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        log.error("bug of kind %s", type(error).__name__)
        return answer(500, error="Bug", message="the service failed", hint="report the trace id to the operator")


def place(location: tuple[int | str, ...]) -> str:
    """body.records.0.age"""
    return ".".join(str(part)[:100] for part in location)
