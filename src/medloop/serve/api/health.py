"""Health, readiness and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from medloop.feedback import FeedbackAway
from medloop.serve.api.predictions import service_of
from medloop.serve.api.route import ERRORS, open_to_all, requires
from medloop.serve.api.schemas import ErrorBody, HealthBody

router = APIRouter()


@router.get("/healthz", response_model=HealthBody, openapi_extra=open_to_all())
async def healthz() -> Any:
    """Report that the process is alive."""
    return {"status": "alive"}


@router.get("/readyz", response_model=HealthBody, responses={503: {"model": ErrorBody}}, openapi_extra=open_to_all())
async def readyz(request: Request) -> Any:
    """Report whether a model is loaded and predictions can be stored."""
    service = service_of(request)
    trouble = service.feedback.trouble() if service.serving else None
    if trouble is not None:
        raise FeedbackAway(
            f"The service is not ready, because predictions cannot be stored normally: {trouble.rstrip('.')}.",
            "Repair this; predictions that were kept in the meantime are then stored automatically.",
        )
    return {"status": "ready"}


@router.get("/metrics", response_class=PlainTextResponse, responses=ERRORS, openapi_extra=requires("reader"))
async def metrics(request: Request) -> Response:
    """Return the metrics in the format of Prometheus."""
    return PlainTextResponse(service_of(request).metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8")
