"""Predictions: for many files or records, in the short form, and as they were stored."""

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
from medloop.serve.api.route import ERRORS, requires
from medloop.serve.api.schemas import (
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
from medloop.serve.http.bodies import Body
from medloop.serve.http.refusals import SEE_DOCS
from medloop.serve.http.strict_json import memory_to_parse, parse, validate
from medloop.serve.http.uploads import MAX_PATIENT_LENGTH, Form, FormReader, Upload
from medloop.serve.inference.inference_service import Caller
from medloop.serve.inference.patients import PatientResult
from medloop.serve.service import Service

# Larger images are sent as a form.
MAX_JSON_BYTES = 16_000_000
# Parsed on the event loop, since this takes little time.
SMALL_JSON_BYTES = 65_536
MAX_ERRORS_SHOWN = 5
SEND_MANY = "Send several to POST /v1/predictions."

Content = TypeVar("Content")

# A form has no lists; a field is repeated for each value.
FORM_PATIENT = f"{PATIENT} Send the field once for all files, or once per file in their order."
Number = Annotated[
    int, Query(alias="slice", ge=0, description="For a prediction per patient: the slice, by its position in `slices`.")
]
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id of the prediction.")]

router = APIRouter(responses=ERRORS)


def _requires_with_input(*, many: bool) -> dict[str, Any]:
    """Return the OpenAPI fields of a route that takes JSON or a form with files."""
    models = (RecordsBody, FeaturesBody) if many else (FeaturesBody, ImageBody)
    schemas = [model.model_json_schema(ref_template="#/components/schemas/{model}") for model in models]
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {"files": {"type": "array", "items": file, "minItems": 1}} if many else {"file": file}
    patient = {
        "type": "array",
        "items": {"type": "string", "maxLength": MAX_PATIENT_LENGTH},
        "description": FORM_PATIENT,
    }
    form = {"type": "object", "properties": {**files, "patient": patient}, "required": list(files)}
    content = {"application/json": {"schema": {"anyOf": schemas}}, "multipart/form-data": {"schema": form}}
    return requires("reader", requestBody={"required": True, "content": content})


@router.post(
    "/predict", response_model=PatientPredictionBody | PredictionBody, openapi_extra=_requires_with_input(many=False)
)
async def predict(request: Request) -> Response:
    """Predict one case: a file, `{"image": base64}`, or `{"features": [...]}` in the order of the table's columns.

    A model that decides per patient takes all slices of one patient, as files or as a list of images.
    """
    service = service_of(request)
    service.check()
    with open_body(request) as body:
        if is_form(request):
            prediction = await _predict_form(service, await read_form(request, body), caller_of(request))
        else:
            content = await _read_json(service, body, _parse_short)
            prediction = await _predict_short(service, content, caller_of(request))
    return json_response(prediction)


@router.post(
    "/v1/predictions",
    response_model=PredictionsBody | FilePredictionsBody | PatientPredictionsBody,
    openapi_extra=_requires_with_input(many=True),
)
async def predictions(request: Request) -> Response:
    """Predict many files (PNG, JPEG, DICOM, ...) or named records, and return one prediction each, in order.

    A model that decides per patient returns one prediction per patient, from all files of each.
    """
    service = service_of(request)
    service.check()
    with open_body(request) as body:
        if is_form(request):
            return await _predict_files(service, await read_form(request, body), caller_of(request))
        content = await _read_json(service, body, _parse_many)
        if not isinstance(content, RecordsBody):
            return json_response({"predictions": [await _predict_short(service, content, caller_of(request))]})
        rows: list[Row] = list(content.records)
        places = [f"records.{number}" for number in range(len(rows))]
        found = await service.predict_rows(rows, places, caller_of(request))
    return json_response({"predictions": [vars(prediction) for prediction in found]})


@router.get("/v1/predictions/{prediction}", response_model=StoredBody, openapi_extra=requires("reader"))
def stored_prediction(prediction: Id, request: Request) -> Any:
    """Return a stored prediction."""
    stored = _load(request, prediction)
    return StoredBody(
        **vars(stored.prediction),
        at=stored.at,
        kind=stored.kind,
        has_input=bool(stored.input or stored.row),
        patient=stored.patient,
        slices=len(stored.addresses),
    )


@router.get("/v1/predictions/{prediction}/input.png", response_class=Response, openapi_extra=requires("reader"))
def stored_input(prediction: Id, request: Request, number: Number = 0) -> Response:
    """Return the image that a prediction is for, if it was kept."""
    return png_response(_load_image(request, _load(request, prediction), number))


@router.get("/v1/predictions/{prediction}/heatmap.png", response_class=Response, openapi_extra=requires("reader"))
async def stored_heatmap(prediction: Id, request: Request, number: Number = 0) -> Response:
    """Return the image with a heatmap of the evidence for the predicted class."""
    service = service_of(request)
    stored = await run_in_threadpool(_load, request, prediction)
    data = await run_in_threadpool(_load_image, request, stored, number)
    # The evidence for the class of a patient can be shown on every slice; a single image shows its own class.
    label = stored.prediction.label if stored.slices else None
    predictor = service.serving.predictor
    if stored.prediction.bundle != predictor.hash:
        error = UserError(
            f"This prediction was made by version {stored.prediction.version}, but version {predictor.version} is "
            "active, which cannot draw its heatmap.",
            "Send the image again for a prediction by the active version.",
        )
        error.http_status = 409
        raise error
    with service.engine.place():
        return png_response(await service.engine.run(lambda: predictor.heatmap(data, label=label)))


def service_of(request: Request) -> Service:
    """Return the service that handles a request."""
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Return who sent a request."""
    return Caller(key=request.state.key, trace=request.state.trace)


def is_form(request: Request) -> bool:
    """Return whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def open_body(request: Request, *, max_bytes: int | None = None) -> AbstractContextManager[Body]:
    """Open the body of a request; `max_bytes` does not apply to forms with files, which serve.max_body_mib limits."""
    return service_of(request).bodies.open(request, max_bytes=None if is_form(request) else max_bytes or MAX_JSON_BYTES)


async def read_form(request: Request, body: Body) -> Form:
    """Return the form of the body, with at least one file."""
    reader = FormReader(request.headers["content-type"], max_files=service_of(request).settings.serve.max_files)
    await body.read_into(reader.feed)
    form = reader.form()
    if not form.files:
        raise RejectedInput("The form contains no file.", "Choose a file, for instance with curl: -F file=@scan.png.")
    return form


def json_response(content: dict[str, Any]) -> Response:
    """Return a response whose content needs no validation."""
    return Response(to_json(content), media_type="application/json")


def png_response(data: bytes) -> Response:
    """Return a response with an image."""
    return Response(data, media_type="image/png")


async def _read_json(service: Service, body: Body, parser: Callable[[bytes], Content]) -> Content:
    """Return the parsed body; a large one is parsed on a thread, one at a time."""
    content = await body.read()
    if len(content) <= SMALL_JSON_BYTES:
        return parser(content)
    body.hold(memory_to_parse(content))
    return await service.engine.read(partial(parser, content))


def _parse_many(content: bytes) -> RecordsBody | FeaturesBody | Form:
    parsed = parse(content)
    if isinstance(parsed, dict) and "features" in parsed:
        return _validate_short(parsed)
    return validate(parsed, RecordsBody)


def _parse_short(content: bytes) -> FeaturesBody | Form:
    return _validate_short(parse(content))


def _validate_short(parsed: Any) -> FeaturesBody | Form:
    if not isinstance(parsed, dict) or "image" not in parsed:
        return validate(parsed, FeaturesBody)
    body = validate(parsed, ImageBody)
    texts = body.image if isinstance(body.image, list) else [body.image]
    files = [Upload(name="image", data=_decode_base64(text)) for text in texts]
    return Form(files=files, patients=[body.patient.encode()] if body.patient else [])


async def _predict_short(service: Service, content: FeaturesBody | Form, caller: Caller) -> dict[str, Any]:
    if isinstance(content, Form):
        return await _predict_form(service, content, caller)
    predictor = service.serving.predictor
    if predictor.is_image:
        raise RejectedInput("This model takes images, not features.", 'Send a file, or {"image": base64}.')
    row = predictor.preparer.row_of(content.features)
    (prediction,) = await service.predict_rows([row], ["features"], caller)
    return vars(prediction)


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise RejectedInput("The field `image` is not base64.", SEE_DOCS) from None


async def _predict_form(service: Service, form: Form, caller: Caller) -> dict[str, Any]:
    """Return the single prediction for a file, or for the files of a patient."""
    predictor = service.serving.predictor
    if predictor.needs_patients:
        return await _predict_patient(service, predictor, form.by_patient(), caller)
    if len(form.files) != 1:
        raise RejectedInput(f"POST /predict takes one file, and the form has {len(form.files)}.", SEND_MANY)
    (prediction,) = await service.predict_files(form.files, caller)
    if isinstance(prediction, RejectedInput):
        raise prediction
    return vars(prediction)


async def _predict_patient(
    service: Service, predictor: Predictor, files: Sequence[Upload], caller: Caller
) -> dict[str, Any]:
    found = await service.predict_patients(predictor, files, caller, single=True)
    if found.rejected:
        number, error = next(iter(found.rejected.items()))
        raise error if len(files) == 1 else RejectedInput(_numbered(number, error), error.hint)
    if found.patients != 1:
        raise RejectedInput(
            f"POST /predict takes the slices of one patient, and the form has {found.patients} patients.", SEND_MANY
        )
    return _patient_body(files, found.results[0])


async def _predict_files(service: Service, form: Form, caller: Caller) -> Response:
    predictor = service.serving.predictor
    if predictor.needs_patients:
        files = form.by_patient()
        found = await service.predict_patients(predictor, files, caller)
        bodies, rejected = [_patient_body(files, one) for one in found.results], found.rejected
    else:
        files = form.files
        results = await service.predict_files(files, caller)
        rejected = {number: one for number, one in enumerate(results) if isinstance(one, RejectedInput)}
        bodies = [
            {**vars(result), "file": file.name}
            for file, result in zip(files, results, strict=True)
            if isinstance(result, Prediction)
        ]
    if len(rejected) == len(files):
        raise _none_usable(list(rejected.values()))
    rejections = [
        {"file": files[number].name, "number": number, "message": error.problem, "hint": error.hint}
        for number, error in rejected.items()
    ]
    return json_response({"predictions": bodies, "rejected": rejections})


def _patient_body(files: Sequence[Upload], patient: PatientResult) -> dict[str, Any]:
    slices = [{"file": files[at.file].name, "number": at.file, "frame": at.frame} for at in patient.slices]
    return {**vars(patient.result.prediction), "patient": patient.patient, "slices": slices}


def _numbered(number: int, error: RejectedInput) -> str:
    """Return the problem with the number of its file, whose name may be a patient's."""
    return f"File {number + 1}: {error.problem}"


def _none_usable(errors: Sequence[RejectedInput]) -> RejectedInput:
    if len(errors) == 1:
        return errors[0]
    problems = [_numbered(number, error) for number, error in enumerate(errors[:MAX_ERRORS_SHOWN])]
    return RejectedInput(" ".join(problems), errors[0].hint)


def _load(request: Request, prediction: str) -> StoredPrediction:
    stored = service_of(request).feedback.prediction(prediction)
    if stored is None:
        raise NotFound(f"No prediction with id {prediction}.", "Check the id.")
    return stored


def _load_image(request: Request, stored: StoredPrediction, number: int) -> bytes:
    count = len(stored.addresses)
    if number >= count:
        raise NotFound(f"There is no slice {number}; this prediction has {count}.", "The first slice has the number 0.")
    data = service_of(request).feedback.input_of(stored, number)
    if not isinstance(data, bytes):
        raise NotFound(
            "The image of this prediction is not stored.",
            "The settings feedback.keep_inputs and feedback.keep_days say whether and how long images are kept.",
        )
    return data
