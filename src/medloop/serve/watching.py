"""Whether the service is alive and able to answer, and its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from medloop.feedback import FeedbackAway
from medloop.serve.predictions import service_of
from medloop.serve.routes import ERRORS, GuardedRoute, takes, takes_nothing
from medloop.serve.schemas import ErrorBody, HealthBody

watching = APIRouter(route_class=GuardedRoute)


@watching.get("/healthz", response_model=HealthBody, openapi_extra=takes_nothing())
async def healthz() -> Any:
    """Alive."""
    return {"status": "alive"}


@watching.get(
    "/readyz", response_model=HealthBody, responses={503: {"model": ErrorBody}}, openapi_extra=takes_nothing()
)
async def readyz(request: Request) -> Any:
    """Able to answer: a model answered its self-test, and answers can be written down."""
    service = service_of(request)
    trouble = service.feedback.trouble() if service.serving else None
    if trouble is not None:
        raise FeedbackAway(
            "The service is not ready: answers cannot be stored as they should",
            found=trouble,
            hint="repair what is named; what can be kept until then is stored by itself",
        )
    return {"status": "ready"}


@watching.get("/metrics", response_class=PlainTextResponse, responses=ERRORS, openapi_extra=takes("reader"))
async def metrics(request: Request) -> Response:
    """The figures, for Prometheus."""
    return PlainTextResponse(service_of(request).metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
