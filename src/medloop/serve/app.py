"""The application: predictions, the model that makes them, and whether it is able to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from medloop import __version__
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import BrokenBundle, RejectedInput
from medloop.serve import docs, errors
from medloop.serve.home import home_page
from medloop.serve.schemas import (
    ErrorBody,
    FeaturesBody,
    HealthBody,
    ModelBody,
    PredictionBody,
    PredictionsBody,
    RecordsBody,
)
from medloop.serve.strict_json import read_body

ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorBody},
    422: {"model": ErrorBody},
    503: {"model": ErrorBody},
}


def create_app(predictor: Predictor | None) -> FastAPI:
    """The service for one loaded bundle; without one it is alive but not ready."""
    app = FastAPI(
        title="medloop", version=__version__, docs_url=None, redoc_url=None, swagger_ui_oauth2_redirect_url=None
    )
    docs.install(app)
    errors.install(app)
    _add_watching(app, predictor)
    _add_predictions(app, lambda: _ready(predictor))
    return app


def _ready(predictor: Predictor | None) -> Predictor:
    if predictor is None:
        raise BrokenBundle("a model must be loaded", found="none", hint="promote one: `medloop models promote N`")
    return predictor


def _add_watching(app: FastAPI, predictor: Predictor | None) -> None:
    @app.get("/healthz", response_model=HealthBody)
    async def healthz() -> Any:
        """Alive."""
        return {"status": "alive"}

    @app.get("/readyz", response_model=HealthBody, responses={503: {"model": ErrorBody}})
    async def readyz() -> Any:
        """Able to answer."""
        _ready(predictor)
        return {"status": "ready"}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def home() -> str:
        return home_page(_ready(predictor))


def _add_predictions(app: FastAPI, ready: Callable[[], Predictor]) -> None:
    @app.post("/predict", response_model=PredictionBody, responses=ERRORS, openapi_extra=_json_body(FeaturesBody))
    async def predict(request: Request) -> Any:
        """The short form: `{"features": [...]}` in the table's order."""
        predictor = ready()
        body = await read_body(request, FeaturesBody)
        answers = await run_in_threadpool(answer, predictor, [predictor.preparer.row_of(body.features)], ["features"])
        return PredictionBody.of(answers[0])

    @app.post(
        "/v1/predictions", response_model=PredictionsBody, responses=ERRORS, openapi_extra=_json_body(RecordsBody)
    )
    async def predictions(request: Request) -> Any:
        """Named records, one answer each, in order."""
        predictor = ready()
        body = await read_body(request, RecordsBody)
        rows: list[Row] = [dict(record) for record in body.records]
        places = [f"records.{number}" for number in range(len(rows))]
        answers = await run_in_threadpool(answer, predictor, rows, places)
        return {"predictions": [PredictionBody.of(answer) for answer in answers]}

    @app.get("/v1/model", response_model=ModelBody, responses={503: {"model": ErrorBody}})
    async def model() -> Any:
        """What serves, and the columns it wants."""
        return model_body(ready())

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Any]) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response


def answer(predictor: Predictor, rows: Sequence[Row], places: Sequence[str]) -> list[Prediction]:
    """The answers, or an error that says where; a number is no text in JSON, as it is in CSV."""
    numbers = [column.name for column in predictor.preparer.columns if column.kind == "number"]
    for where, row in zip(places, rows, strict=True):
        if texts := [name for name in numbers if isinstance(row.get(name), str)]:
            raise RejectedInput(
                f"{where}: '{texts[0]}' must be a number", found="a text", hint="send a number, or null"
            )
    try:
        return predictor.predict(rows)
    except RejectedInput:
        for where, row in zip(places, rows, strict=True):
            _check(predictor, row, where)
        raise


def _check(predictor: Predictor, row: Row, where: str) -> None:
    try:
        predictor.preparer.prepare([row])
    except RejectedInput as error:
        raise RejectedInput(f"{where}: {error.must}", found=error.found, hint=error.hint) from error


def model_body(predictor: Predictor) -> dict[str, Any]:
    """What a client may know of the bundle."""
    meta = predictor.meta
    return {
        "name": meta["name"],
        "version": predictor.version,
        "bundle": predictor.hash,
        "classes": meta["classes"],
        "positive": meta["positive"],
        "threshold": meta["threshold"]["value"],
        "threshold_rule": meta["threshold"]["rule"],
        "columns": meta["preparer"]["columns"],
        "data_version": meta["data_version"],
        "edition": meta["edition"],
        "created": meta["created"],
    }


def _json_body(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
