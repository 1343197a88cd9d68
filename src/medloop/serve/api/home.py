"""The page at `/`: choose scans or fill in values, press Predict, read the result; works without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.page import render
from medloop.serve.api.predictions import caller_of, is_form, open_body, read_form, service_of
from medloop.serve.api.route import requires
from medloop.serve.http.uploads import MAX_PATIENT_LENGTH, Form, Upload
from medloop.serve.inference.inference_service import Caller
from medloop.serve.inference.patients import Place
from medloop.serve.service import Service

MAX_FORM_BYTES = 1_000_000
MAX_FIELDS = 10_000
# A heatmap for every image would make the page of many predictions too large.
MAX_HEATMAPS = 16
ACCEPT = ".png,.jpg,.jpeg,.dcm,.dicom,.tif,.tiff,.bmp,image/*,application/dicom"

web = APIRouter(include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result for one input: a prediction, or the error that prevented it."""

    name: str = ""
    prediction: Prediction | None = None
    error: RejectedInput | None = None
    heatmap: bytes = b""
    values: tuple[tuple[str, str], ...] = ()


@web.get("/", openapi_extra=requires("reader"))
async def home(request: Request) -> Response:
    """Return the page with the form."""
    return _page(service_of(request).serving.predictor, [])


@web.post("/", openapi_extra=requires("reader"))
async def predict_form(request: Request) -> Response:
    """Return the page with the predictions for the form that was sent."""
    service = service_of(request)
    service.check()
    predictor = service.serving.predictor
    with open_body(request, max_bytes=MAX_FORM_BYTES) as body:
        try:
            if is_form(request):
                results = await _predict_images(service, predictor, await read_form(request, body), caller_of(request))
            else:
                row = row_of(predictor, await body.read())
                (prediction,) = await service.predict_rows([row], ["form"], caller_of(request))
                results = [Result(prediction=prediction, values=format_values(row))]
        except RejectedInput as error:
            return _page(predictor, [Result(error=error)], status=error.http_status)
    return _page(predictor, results)


def row_of(predictor: Predictor, content: bytes) -> Row:
    """Return the values of a form, read like the cells of a CSV file; an empty field is a missing value."""
    if predictor.is_image:
        raise RejectedInput("This model takes images, not values.", "Choose a file.")
    try:
        fields = parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RejectedInput("The form cannot be read.", "Use the form on this page.") from None
    values = dict(fields)
    if len(values) < len(fields):
        raise RejectedInput("The form contains a column more than once.", "Use the form on this page.")
    return predictor.read_texts(values)


def format_values(row: Row) -> tuple[tuple[str, str], ...]:
    """Return the values that were read, so that a typing error is visible next to the prediction."""
    return tuple((name, format_value(value)) for name, value in row.items())


def format_value(value: float | str | None) -> str:
    """Return a value in full precision; a missing one is `unknown`."""
    if value is None:
        return "unknown"
    return value if isinstance(value, str) else f"{value:.15g}"


async def _predict_images(service: Service, predictor: Predictor, form: Form, caller: Caller) -> list[Result]:
    if predictor.needs_patients:
        return await _predict_patients(service, predictor, form.by_patient(), caller)
    predictions = await service.predict_files(form.files, caller)
    results = []
    for number, (file, prediction) in enumerate(zip(form.files, predictions, strict=True)):
        if isinstance(prediction, RejectedInput):
            results.append(Result(name=file.name, error=prediction))
            continue
        heatmap = await _heatmap(service, predictor, file) if number < MAX_HEATMAPS else b""
        results.append(Result(name=file.name, prediction=prediction, heatmap=heatmap))
    return results


async def _predict_patients(
    service: Service, predictor: Predictor, files: Sequence[Upload], caller: Caller
) -> list[Result]:
    """Return one prediction per patient with the slice that contributes most, and the files that were rejected."""
    found = await service.predict_patients(predictor, files, caller)
    results = []
    for number, one in enumerate(found.results):
        prediction, place = one.result.prediction, one.slices[one.leading]
        heatmap = b""
        if number < MAX_HEATMAPS:
            heatmap = await _slice_heatmap(service, predictor, files[place.file], place, prediction)
        others = f", and {len(one.slices) - 1} more" if len(one.slices) > 1 else ""
        name = f"{files[one.slices[0].file].name}{others}"
        results.append(Result(name=name, prediction=prediction, heatmap=heatmap))
    return [*results, *(Result(name=files[number].name, error=error) for number, error in found.rejected.items())]


async def _slice_heatmap(
    service: Service, predictor: Predictor, file: Upload, place: Place, prediction: Prediction
) -> bytes:
    def draw() -> bytes:
        decoded = predictor.frames(file.data, start=place.frame).pictures[0]
        return predictor.heatmap(decoded, label=prediction.label)

    return await service.engine.run(draw)


async def _heatmap(service: Service, predictor: Predictor, file: Upload) -> bytes:
    return await service.engine.run(lambda: predictor.heatmap(file.data))


def _page(predictor: Predictor, results: Sequence[Result], *, status: int = 200) -> Response:
    meta = predictor.meta
    threshold = meta["threshold"]["value"]
    html = render(
        "upload.html",
        title=str(meta["name"]),
        lead=f"{meta['model']['name']}, version {predictor.version}, bundle {predictor.hash[:12]}",
        results=results,
        takes_images=predictor.is_image,
        by_patient=predictor.needs_patients,
        accept=ACCEPT,
        max_patient_length=MAX_PATIENT_LENGTH,
        columns=() if predictor.is_image else predictor.preparer.columns,
        classes=meta["classes"],
        positive=meta["positive"],
        threshold="none" if threshold is None else f"{threshold:.3g}",
        rule=meta["threshold"]["rule"],
    )
    return HTMLResponse(html, status)
