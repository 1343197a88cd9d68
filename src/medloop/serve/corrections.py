"""Corrections: anybody who may read may say that an answer was wrong, and another person decides."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request

from medloop.serve.predictions import asker_of, service_of
from medloop.serve.routes import ERRORS, GuardedRoute, takes
from medloop.serve.schemas import CorrectBody, CorrectionBody, CorrectionsBody, ReviewBody

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The correction's id.")]
State = Literal["pending", "accepted", "rejected", "second_reader"]
OnceKey = Annotated[str | None, Header(max_length=200, description="The same key gives the same correction.")]

corrections = APIRouter(route_class=GuardedRoute, responses={**ERRORS, 409: ERRORS[422]})


@corrections.post("/v1/corrections", status_code=201, response_model=CorrectionBody, openapi_extra=takes("reader"))
def correct(body: CorrectBody, request: Request, idempotency_key: OnceKey = None) -> Any:
    """Say that an answer was wrong, and why."""
    who = asker_of(request).key.name
    return service_of(request).feedback.correct(
        body.prediction_id, body.label, body.reason, who, idempotency=idempotency_key
    )


@corrections.get("/v1/corrections", response_model=CorrectionsBody, openapi_extra=takes("reader"))
def list_corrections(
    request: Request,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="The last id seen.")] = None,
) -> Any:
    """Corrections, oldest first."""
    return {"corrections": service_of(request).feedback.corrections(state=state, limit=limit, after=after)}


@corrections.post("/v1/corrections/{correction}/review", response_model=CorrectionBody, openapi_extra=takes("reviewer"))
def review(correction: Id, body: ReviewBody, request: Request) -> Any:
    """Decide on somebody else's correction."""
    who = asker_of(request).key.name
    return service_of(request).feedback.review(correction, body.decision, who, body.reason)
