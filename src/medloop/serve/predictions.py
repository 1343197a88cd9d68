"""Predictions: many files or records at once, the short forms, and what was answered before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic_core import to_json

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput, UserError
from medloop.feedback import StoredPrediction
from medloop.feedback.records import NotFound
from medloop.serve.answering import Asker
from medloop.serve.bodies import Body
from medloop.serve.patients import PatientAnswer
from medloop.serve.routes import ERRORS, GuardedRoute, HotRoute, takes
from medloop.serve.schemas import (
    PATIENT,
    FeaturesBody,
    FilePredictionsBody,
    ImageBody,
    PatientPredictionBody,
    PatientPredictionsBody,
    PredictionBody,
    PredictionsBody,
    RecordsBody,
    StoredBody,
)
from medloop.serve.service import Service
from medloop.serve.strict_json import checked, memory_for, parse
from medloop.serve.uploads import LONGEST_PATIENT, Form, FormReader, Upload

# Larger pictures go into a form.
MAX_JSON_BYTES = 16_000_000
# Read at once, as nobody has to wait long for it.
SMALL_JSON_BYTES = 65_536
MAX_ERRORS_SHOWN = 5

Content = TypeVar("Content")

# Multipart has no lists, so a field stands for as many values as it is sent with.
FORM_PATIENT = f"{PATIENT} Sent once it is that of all files; else it is sent once for each file, in their order."
Number = Annotated[
    int, Query(alias="slice", ge=0, description="Of an answer for a patient: the slice, by its place in `slices`.")
]
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id that the answer carried.")]

hot = APIRouter(route_class=HotRoute)
past = APIRouter(route_class=GuardedRoute, responses=ERRORS)


def _takes_body(*, many: bool) -> dict[str, Any]:
    models = (RecordsBody, FeaturesBody) if many else (FeaturesBody, ImageBody)
    schemas = [model.model_json_schema(ref_template="#/components/schemas/{model}") for model in models]
    one: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {"files": {"type": "array", "items": one, "minItems": 1}} if many else {"file": one}
    patient = {"type": "array", "items": {"type": "string", "maxLength": LONGEST_PATIENT}, "description": FORM_PATIENT}
    form = {"type": "object", "properties": {**files, "patient": patient}, "required": list(files)}
    content = {"application/json": {"schema": {"anyOf": schemas}}, "multipart/form-data": {"schema": form}}
    return takes("reader", requestBody={"required": True, "content": content})


@hot.post(
    "/predict",
    response_model=PatientPredictionBody | PredictionBody,
    responses=ERRORS,
    openapi_extra=_takes_body(many=False),
)
async def predict(request: Request) -> Response:
    """The short form: one file, `{"image": base64}`, or `{"features": [...]}` in the table's order.

    A model that decides per patient takes all slices of one patient, as files or as a list of images.
    """
    service = service_of(request)
    service.check()
    with open_body(request) as body:
        if is_form(request):
            answer = await _only(service, await form_of(request, body), asker_of(request))
        else:
            answer = await _short(service, await _json_of(service, body, _short_of), asker_of(request))
    return json_of(answer)


@hot.post(
    "/v1/predictions",
    response_model=PredictionsBody | FilePredictionsBody | PatientPredictionsBody,
    responses=ERRORS,
    openapi_extra=_takes_body(many=True),
)
async def predictions(request: Request) -> Response:
    """Files (PNG, JPEG, DICOM, ...) or named records, one answer each, in order.

    A model that decides per patient gives one answer a patient, from all files of each.
    """
    service = service_of(request)
    service.check()
    with open_body(request) as body:
        if is_form(request):
            return await _many(service, await form_of(request, body), asker_of(request))
        content = await _json_of(service, body, _many_of)
        if not isinstance(content, RecordsBody):
            return json_of({"predictions": [await _short(service, content, asker_of(request))]})
        rows: list[Row] = list(content.records)
        places = [f"records.{number}" for number in range(len(rows))]
        answers = await service.predict_rows(rows, places, asker_of(request))
    return json_of({"predictions": [vars(answer) for answer in answers]})


@past.get("/v1/predictions/{prediction}", response_model=StoredBody, openapi_extra=takes("reader"))
def stored_prediction(prediction: Id, request: Request) -> Any:
    """An answer that was given."""
    stored = _stored(request, prediction)
    has_input = bool(stored.input or stored.row)
    return StoredBody(
        **vars(stored.prediction),
        at=stored.at,
        kind=stored.kind,
        has_input=has_input,
        patient=stored.patient,
        slices=len(stored.addresses),
    )


@past.get("/v1/predictions/{prediction}/input.png", response_class=Response, openapi_extra=takes("reader"))
def stored_input(prediction: Id, request: Request, number: Number = 0) -> Response:
    """The picture that was judged, as far as it is kept."""
    return png_of(_picture(request, _stored(request, prediction), number))


@past.get("/v1/predictions/{prediction}/heatmap.png", response_class=Response, openapi_extra=takes("reader"))
async def stored_heatmap(prediction: Id, request: Request, number: Number = 0) -> Response:
    """The picture with what spoke for the class in colour."""
    service = service_of(request)
    stored = await run_in_threadpool(_stored, request, prediction)
    data = await run_in_threadpool(_picture, request, stored, number)
    # What speaks for a patient's class shows in every slice; a picture alone is of its own class.
    label = stored.prediction.label if stored.slices else None
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
        return png_of(await service.engine.run(lambda: predictor.heatmap(data, label=label)))


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


def open_body(request: Request, *, most: int | None = None) -> AbstractContextManager[Body]:
    """The body of a request, to be read as a form with files or, up to `most` bytes, as something else."""
    return service_of(request).bodies.open(request, most=None if is_form(request) else most or MAX_JSON_BYTES)


async def form_of(request: Request, body: Body) -> Form:
    """The form of the body; it has at least one file."""
    reader = FormReader(request.headers["content-type"], most=service_of(request).settings.serve.max_files)
    await body.read_into(reader.feed)
    form = reader.form()
    if not form.files:
        raise RejectedInput("a form must hold at least one file", found="none", hint="choose a file: -F file=@scan.png")
    return form


def words_of(error: RejectedInput) -> str:
    """What was wrong, in one line."""
    return f"{error.must}; found: {error.found}"


def json_of(body: dict[str, Any]) -> Response:
    """The body as it is sent; an answer is one as it is, and need not be checked again."""
    return Response(to_json(body), media_type="application/json")


def png_of(data: bytes) -> Response:
    """A picture as it is sent."""
    return Response(data, media_type="image/png")


async def _json_of(service: Service, body: Body, read: Callable[[bytes], Content]) -> Content:
    """What a JSON body says; a large one is read beside the event loop, one at a time."""
    content = await body.read()
    if len(content) <= SMALL_JSON_BYTES:
        return read(content)
    body.hold(memory_for(content))
    return await service.engine.read(partial(read, content))


def _many_of(content: bytes) -> RecordsBody | FeaturesBody | Form:
    parsed = parse(content)
    if isinstance(parsed, dict) and "features" in parsed:
        return _short_form(parsed)
    return checked(parsed, RecordsBody)


def _short_of(content: bytes) -> FeaturesBody | Form:
    return _short_form(parse(content))


def _short_form(parsed: Any) -> FeaturesBody | Form:
    if not isinstance(parsed, dict) or "image" not in parsed:
        return checked(parsed, FeaturesBody)
    body = checked(parsed, ImageBody)
    texts = body.image if isinstance(body.image, list) else [body.image]
    files = [Upload(name="image", data=_from_base64(text)) for text in texts]
    return Form(files=files, patients=[body.patient.encode()] if body.patient else [])


async def _short(service: Service, content: FeaturesBody | Form, asker: Asker) -> dict[str, Any]:
    if isinstance(content, Form):
        return await _only(service, content, asker)
    predictor = service.serving.predictor
    if predictor.is_image:
        raise RejectedInput("this model takes images", found="features", hint='send a file, or {"image": base64}')
    (answer,) = await service.predict_rows([predictor.preparer.row_of(content.features)], ["features"], asker)
    return vars(answer)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise RejectedInput("body.image must be base64", found="something else", hint="see /docs") from None


async def _only(service: Service, form: Form, asker: Asker) -> dict[str, Any]:
    """The one answer of the short form: for a file, or for the files of a patient."""
    predictor = service.serving.predictor
    if predictor.needs_patients:
        return await _one_patient(service, predictor, form.by_patient(), asker)
    if len(form.files) != 1:
        raise RejectedInput(
            "the short form takes one file", found=f"{len(form.files)} files", hint="POST many to /v1/predictions"
        )
    (answer,) = await service.predict_files(form.files, asker)
    if isinstance(answer, RejectedInput):
        raise answer
    return vars(answer)


async def _one_patient(service: Service, predictor: Predictor, files: Sequence[Upload], asker: Asker) -> dict[str, Any]:
    found = await service.predict_patients(predictor, files, asker, one=True)
    if found.rejected:
        number, error = next(iter(found.rejected.items()))
        raise error if len(files) == 1 else _numbered(number, error)
    if found.patients != 1:
        raise RejectedInput(
            "the short form takes the slices of one patient",
            found=f"{found.patients} patients",
            hint="POST many to /v1/predictions",
        )
    return _body_of(files, found.answers[0])


async def _many(service: Service, form: Form, asker: Asker) -> Response:
    predictor = service.serving.predictor
    if predictor.needs_patients:
        files = form.by_patient()
        found = await service.predict_patients(predictor, files, asker)
        given, refused = [_body_of(files, one) for one in found.answers], found.rejected
    else:
        files = form.files
        answers = await service.predict_files(files, asker)
        refused = {number: one for number, one in enumerate(answers) if isinstance(one, RejectedInput)}
        given = [
            {**vars(answer), "file": file.name}
            for file, answer in zip(files, answers, strict=True)
            if isinstance(answer, Prediction)
        ]
    if len(refused) == len(files):
        raise _none_usable(list(refused.values()))
    rejected = [
        {"file": files[number].name, "number": number, "message": words_of(error), "hint": error.hint}
        for number, error in refused.items()
    ]
    return json_of({"predictions": given, "rejected": rejected})


def _body_of(files: Sequence[Upload], one: PatientAnswer) -> dict[str, Any]:
    slices = [{"file": files[at.file].name, "number": at.file, "frame": at.frame} for at in one.slices]
    return {**vars(one.answer.prediction), "patient": one.patient, "slices": slices}


def _numbered(number: int, error: RejectedInput) -> RejectedInput:
    """The error with the number of its file, whose name may be a patient's."""
    return RejectedInput(error.must, found=f"file {number + 1}: {error.found}", hint=error.hint)


def _none_usable(errors: Sequence[RejectedInput]) -> RejectedInput:
    if len(errors) == 1:
        return errors[0]
    found = [f"file {number}: {error.found}" for number, error in enumerate(errors[:MAX_ERRORS_SHOWN], 1)]
    return RejectedInput(errors[0].must, found="; ".join(found), hint=errors[0].hint)


def _stored(request: Request, prediction: str) -> StoredPrediction:
    stored = service_of(request).feedback.prediction(prediction)
    if stored is None:
        raise NotFound("an answer must have been given", found="none of this id", hint="check the id")
    return stored


def _picture(request: Request, stored: StoredPrediction, number: int) -> bytes:
    if number >= len(stored.addresses):
        raise NotFound(
            "an answer must rest on so many slices", found=f"{len(stored.addresses)}", hint="the first has number 0"
        )
    data = service_of(request).feedback.input_of(stored, number)
    if not isinstance(data, bytes):
        raise NotFound(
            "the picture must have been kept",
            found="none",
            hint="pictures are kept as long as the settings say: feedback.keep_inputs and feedback.keep_days",
        )
    return data
