"""Predictions: many files or records at once, the short forms, and what was answered before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic_core import to_json

from medloop.case import Prediction, Row
from medloop.errors import RejectedInput, UserError
from medloop.feedback import StoredPrediction
from medloop.feedback.records import NotFound
from medloop.serve.answering import Asker
from medloop.serve.routes import ERRORS, GuardedRoute, HotRoute, takes
from medloop.serve.schemas import (
    FeaturesBody,
    FilePredictionsBody,
    ImageBody,
    PredictionBody,
    PredictionsBody,
    RecordsBody,
    StoredBody,
)
from medloop.serve.service import Service
from medloop.serve.strict_json import checked, parse
from medloop.serve.uploads import Upload, read_uploads

# Parsed while all others wait; larger pictures go into a form.
MOST_JSON_BYTES = 16_000_000
MOST_TOLD = 5

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id that the answer carried.")]

hot = APIRouter(route_class=HotRoute)
past = APIRouter(route_class=GuardedRoute, responses=ERRORS)


def _takes_body(*, many: bool) -> dict[str, Any]:
    models = (RecordsBody, FeaturesBody) if many else (FeaturesBody, ImageBody)
    schemas = [model.model_json_schema(ref_template="#/components/schemas/{model}") for model in models]
    one: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {"files": {"type": "array", "items": one, "minItems": 1}} if many else {"file": one}
    form = {"type": "object", "properties": files, "required": list(files)}
    content = {"application/json": {"schema": {"anyOf": schemas}}, "multipart/form-data": {"schema": form}}
    return takes("reader", requestBody={"required": True, "content": content})


@hot.post("/predict", response_model=PredictionBody, responses=ERRORS, openapi_extra=_takes_body(many=False))
async def predict(request: Request) -> Response:
    """The short form: one file, `{"image": base64}`, or `{"features": [...]}` in the table's order."""
    service = service_of(request)
    service.check()
    with service.bodies.open(request, most=_most(request)) as body:
        content = await body.read()
        if is_form(request):
            files = uploads_of(request, content)
            if len(files) != 1:
                raise RejectedInput(
                    "the short form takes one file", found=f"{len(files)} files", hint="POST many to /v1/predictions"
                )
            answer = await _only(service, files[0], asker_of(request))
        else:
            answer = await _short(service, parse(content), asker_of(request))
    return json_of(vars(answer))


@hot.post(
    "/v1/predictions",
    response_model=PredictionsBody | FilePredictionsBody,
    responses=ERRORS,
    openapi_extra=_takes_body(many=True),
)
async def predictions(request: Request) -> Response:
    """Files (PNG, JPEG, DICOM, ...) or named records, one answer each, in order."""
    service = service_of(request)
    service.check()
    with service.bodies.open(request, most=_most(request)) as body:
        content = await body.read()
        if is_form(request):
            return await _many(service, uploads_of(request, content), asker_of(request))
        parsed = parse(content)
        if isinstance(parsed, dict) and "features" in parsed:
            answers = [await _short(service, parsed, asker_of(request))]
        else:
            rows: list[Row] = [dict(record) for record in checked(parsed, RecordsBody).records]
            places = [f"records.{number}" for number in range(len(rows))]
            answers = await service.predict_rows(rows, places, asker_of(request))
    return json_of({"predictions": [vars(answer) for answer in answers]})


@past.get("/v1/predictions/{prediction}", response_model=StoredBody, openapi_extra=takes("reader"))
def stored_prediction(prediction: Id, request: Request) -> Any:
    """An answer that was given."""
    stored = _stored(request, prediction)
    has_input = bool(stored.input or stored.row)
    return StoredBody(**vars(stored.prediction), at=stored.at, kind=stored.kind, has_input=has_input)


@past.get("/v1/predictions/{prediction}/input.png", response_class=Response, openapi_extra=takes("reader"))
def stored_input(prediction: Id, request: Request) -> Response:
    """The picture that was judged, as far as it is kept."""
    return png_of(_picture(request, _stored(request, prediction)))


@past.get("/v1/predictions/{prediction}/heatmap.png", response_class=Response, openapi_extra=takes("reader"))
async def stored_heatmap(prediction: Id, request: Request) -> Response:
    """The picture with what spoke for the class in colour."""
    service = service_of(request)
    stored = await run_in_threadpool(_stored, request, prediction)
    data = await run_in_threadpool(_picture, request, stored)
    predictor = service.serving.predictor
    if stored.prediction.bundle != predictor.hash:
        error = UserError(
            "a heatmap takes the version that gave the answer",
            found=f"version {stored.prediction.version}, while {predictor.version} serves",
            hint="send the picture again for an answer of the version that serves",
        )
        error.http_status = 409
        raise error
    with service.engine.place():
        return png_of(await service.engine.run(lambda: predictor.heatmap(data)))


def service_of(request: Request) -> Service:
    """The service that a request was sent to."""
    service: Service = request.app.state.service
    return service


def asker_of(request: Request) -> Asker:
    """Who sent a request."""
    return Asker(key=request.state.key, trace=request.state.trace)


def is_form(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def uploads_of(request: Request, content: bytearray) -> list[Upload]:
    """The files of the body; there is at least one."""
    most = service_of(request).settings.serve.max_files
    files = read_uploads(content, request.headers["content-type"], most=most)
    if not files:
        raise RejectedInput("a form must hold at least one file", found="none", hint="choose a file: -F file=@scan.png")
    return files


def words_of(error: RejectedInput) -> str:
    """What was wrong, in one line."""
    return f"{error.must}; found: {error.found}"


def json_of(body: dict[str, Any]) -> Response:
    """The body as it is sent; an answer is one as it is, and need not be checked again."""
    return Response(to_json(body), media_type="application/json")


def png_of(data: bytes) -> Response:
    """A picture as it is sent."""
    return Response(data, media_type="image/png")


def _most(request: Request) -> int | None:
    return None if is_form(request) else MOST_JSON_BYTES


async def _short(service: Service, content: Any, asker: Asker) -> Prediction:
    if isinstance(content, dict) and "image" in content:
        text = checked(content, ImageBody).image
        try:
            data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            raise RejectedInput("body.image must be base64", found="something else", hint="see /docs") from None
        return await _only(service, Upload(name="image", data=data), asker)
    features = checked(content, FeaturesBody).features
    predictor = service.serving.predictor
    if predictor.is_image:
        raise RejectedInput("this model takes images", found="features", hint='send a file, or {"image": base64}')
    (answer,) = await service.predict_rows([predictor.preparer.row_of(features)], ["features"], asker)
    return answer


async def _only(service: Service, file: Upload, asker: Asker) -> Prediction:
    (answer,) = await service.predict_files([file], asker)
    if isinstance(answer, RejectedInput):
        raise answer
    return answer


async def _many(service: Service, files: Sequence[Upload], asker: Asker) -> Response:
    answers = await service.predict_files(files, asker)
    refused = [(number, answer) for number, answer in enumerate(answers) if isinstance(answer, RejectedInput)]
    if len(refused) == len(files):
        raise _none_usable(files, [error for _, error in refused])
    given = [
        {**vars(answer), "file": file.name}
        for file, answer in zip(files, answers, strict=True)
        if isinstance(answer, Prediction)
    ]
    rejected = [
        {"file": files[number].name, "number": number, "message": words_of(error), "hint": error.hint}
        for number, error in refused
    ]
    return json_of({"predictions": given, "rejected": rejected})


def _none_usable(files: Sequence[Upload], errors: Sequence[RejectedInput]) -> RejectedInput:
    if len(errors) == 1:
        return errors[0]
    told = [f"{file.name}: {error.found}" for file, error in zip(files, errors, strict=True)]
    return RejectedInput(errors[0].must, found="; ".join(told[:MOST_TOLD]), hint=errors[0].hint)


def _stored(request: Request, prediction: str) -> StoredPrediction:
    stored = service_of(request).feedback.prediction(prediction)
    if stored is None:
        raise NotFound("an answer must have been given", found="none of this id", hint="check the id")
    return stored


def _picture(request: Request, stored: StoredPrediction) -> bytes:
    data = service_of(request).feedback.input_of(stored)
    if not isinstance(data, bytes):
        raise NotFound(
            "the picture must have been kept",
            found="none",
            hint="pictures are kept as long as the settings say: feedback.keep_inputs and feedback.keep_days",
        )
    return data
