"""Corrections: a reader reports a wrong prediction, and another person reviews the correction."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request

from medloop.serve.api.predictions import caller_of, service_of
from medloop.serve.api.route import ERRORS, json_body, requires, requires_with_json
from medloop.serve.api.schemas import CorrectBody, CorrectionBody, CorrectionsBody, ReviewBody

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id of the correction.")]
State = Literal["pending", "accepted", "rejected", "second_reader"]
OnceKey = Annotated[str | None, Header(max_length=200, description="Requests with the same key make one correction.")]

router = APIRouter(responses={**ERRORS, 409: ERRORS[422]})


@router.post(
    "/v1/corrections",
    status_code=201,
    response_model=CorrectionBody,
    openapi_extra=requires_with_json("reader", CorrectBody),
)
def correct(
    body: Annotated[CorrectBody, Depends(json_body(CorrectBody))], request: Request, idempotency_key: OnceKey = None
) -> Any:
    """Report a wrong prediction, with the correct label and the reason."""
    name = caller_of(request).key.name
    return service_of(request).feedback.correct(
        body.prediction_id, body.label, body.reason, name, idempotency=idempotency_key
    )


@router.get("/v1/corrections", response_model=CorrectionsBody, openapi_extra=requires("reader"))
def list_corrections(
    request: Request,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[
        str | None, Query(pattern="^[0-9a-f]{32}$", description="The id of the last correction received.")
    ] = None,
) -> Any:
    """List corrections, oldest first."""
    return {"corrections": service_of(request).feedback.corrections(state=state, limit=limit, after=after)}


@router.post(
    "/v1/corrections/{correction}/review",
    response_model=CorrectionBody,
    openapi_extra=requires_with_json("reviewer", ReviewBody),
)
def review(correction: Id, body: Annotated[ReviewBody, Depends(json_body(ReviewBody))], request: Request) -> Any:
    """Decide on a correction that another person reported."""
    name = caller_of(request).key.name
    return service_of(request).feedback.review(correction, body.decision, name, body.reason)
