"""The plain page at `/`: choose a scan or fill in the values, press Predict, see the class; it needs no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape as attribute
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from medloop import page
from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.page import escape
from medloop.serve.answering import Asker
from medloop.serve.patients import Place
from medloop.serve.predictions import asker_of, form_of, is_form, open_body, service_of, words_of
from medloop.serve.routes import HotRoute, takes
from medloop.serve.service import Service
from medloop.serve.uploads import LONGEST_PATIENT, Form, Upload

MAX_FORM_BYTES = 1_000_000
MAX_FIELDS = 10_000
MOST_SHOWN = 16
ACCEPT = ".png,.jpg,.jpeg,.dcm,.dicom,.tif,.tiff,.bmp,image/*,application/dicom"

WHOSE = "Patient of all these scans; may be left empty for DICOM files, which name theirs"
BY_PATIENT = "It decides per patient, from all slices together: send all of them at once."

STYLE = """<style>
form.ask { border: 1px solid var(--line); border-radius: .5rem; padding: 1.2rem 1.4rem; margin: 1.5rem 0; }
form.ask label { display: block; font-weight: 600; margin-bottom: .5rem; }
form.ask input { font: inherit; max-width: 100%; }
form.ask .fields { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .8rem 1.2rem; }
form.ask .fields label { font-weight: 400; font-size: .9rem; margin: 0; overflow-wrap: anywhere; }
form.ask .fields input { width: 100%; padding: .35rem .5rem; border: 1px solid var(--line); border-radius: .3rem; }
form.ask button { font: inherit; font-weight: 600; color: #fff; background: var(--accent); border: 0;
  border-radius: .3rem; padding: .55rem 1.4rem; margin-top: 1rem; cursor: pointer; }
form.ask button:hover, form.ask button:focus-visible { filter: brightness(1.15); }
:focus-visible { outline: 3px solid #f0b429; outline-offset: 2px; }
.answer { border: 1px solid var(--line); border-left: .4rem solid var(--accent); border-radius: .5rem;
  padding: 1rem 1.4rem; margin: 1.2rem 0; display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.answer.none { border-left-color: var(--warn); } .answer.refused { border-left-color: var(--severe); }
.answer > div { flex: 1 1 20rem; min-width: 0; } .answer h2 { border: 0; padding: 0; margin: 0 0 .2rem; }
.answer .class { font-size: 1.6rem; font-weight: 700; margin: .2rem 0; } .answer .file { overflow-wrap: anywhere; }
.answer img { width: 15rem; border-radius: .3rem; display: block; } .answer figure { margin: 0; }
.share { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr 4rem; gap: .3rem .8rem; margin: .7rem 0; }
.values { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: .1rem 1rem; margin: 0; }
.values dt, .values dd { overflow-wrap: anywhere; } .values dd { margin: 0; font-variant-numeric: tabular-nums; }
.share meter { width: 100%; height: 1.2rem; }
</style>"""

web = APIRouter(route_class=HotRoute, include_in_schema=False)


@web.get("/", openapi_extra=takes("reader"))
async def home(request: Request) -> Response:
    """The page before anything was asked."""
    return _page(service_of(request).serving.predictor, [])


@web.post("/", openapi_extra=takes("reader"))
async def ask(request: Request) -> Response:
    """The page with the answers."""
    service = service_of(request)
    service.check()
    predictor = service.serving.predictor
    with open_body(request, most=MAX_FORM_BYTES) as body:
        try:
            if is_form(request):
                shown = await _ask_images(service, predictor, await form_of(request, body), asker_of(request))
            else:
                row = row_of(predictor, await body.read())
                (answer,) = await service.predict_rows([row], ["form"], asker_of(request))
                shown = [_answer(answer, values=row)]
        except RejectedInput as error:
            return _page(predictor, [_refusal("", error)], status=error.http_status)
    return _page(predictor, shown)


def row_of(predictor: Predictor, content: bytes) -> Row:
    """The values of a form, read as the cells of a CSV file are; an empty field is an unknown value."""
    if predictor.is_image:
        raise RejectedInput("this model takes images", found="a form of values", hint="choose a file")
    try:
        fields = parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RejectedInput("a form must be well formed", found="something else", hint="use the page") from None
    given = dict(fields)
    if len(given) < len(fields):
        raise RejectedInput("a form must name each column once", found="one twice", hint="use the page")
    return predictor.read_texts(given)


async def _ask_images(service: Service, predictor: Predictor, form: Form, asker: Asker) -> list[str]:
    if predictor.needs_patients:
        return await _ask_patients(service, predictor, form.by_patient(), asker)
    answers = await service.predict_files(form.files, asker)
    shown = []
    for number, (file, answer) in enumerate(zip(form.files, answers, strict=True)):
        if isinstance(answer, RejectedInput):
            shown.append(_refusal(file.name, answer))
            continue
        # Pictures make a page of many answers too heavy.
        picture = await _heatmap(service, predictor, file) if number < MOST_SHOWN else b""
        shown.append(_answer(answer, file=file.name, picture=picture))
    return shown


async def _ask_patients(service: Service, predictor: Predictor, files: Sequence[Upload], asker: Asker) -> list[str]:
    """An answer a patient with the slice that shows most, and what could not be used."""
    found = await service.predict_patients(predictor, files, asker)
    shown = []
    for number, one in enumerate(found.answers):
        prediction, place = one.answer.prediction, one.slices[one.leading]
        picture = b""
        if number < MOST_SHOWN:
            picture = await _slice_heatmap(service, predictor, files[place.file], place, prediction)
        several = f", and {len(one.slices) - 1} more" if len(one.slices) > 1 else ""
        said = f"{files[one.slices[0].file].name}{several}"
        shown.append(_answer(prediction, file=said, picture=picture))
    return [*shown, *(_refusal(files[number].name, error) for number, error in found.rejected.items())]


async def _slice_heatmap(
    service: Service, predictor: Predictor, file: Upload, place: Place, prediction: Prediction
) -> bytes:
    def draw() -> bytes:
        decoded = predictor.frames(file.data, start=place.frame).pictures[0]
        return predictor.heatmap(decoded, label=prediction.label)

    return await service.engine.run(draw)


async def _heatmap(service: Service, predictor: Predictor, file: Upload) -> bytes:
    return await service.engine.run(lambda: predictor.heatmap(file.data))


def _page(predictor: Predictor, shown: Sequence[str], *, status: int = 200) -> Response:
    meta = predictor.meta
    positive = ", ".join(meta["positive"]) or "none named"
    threshold = f"Threshold: {_figure(meta['threshold']['value'])}, by the rule {meta['threshold']['rule']}."
    form = _file_form(predictor) if predictor.is_image else _row_form(predictor)
    text = page.page(
        str(meta["name"]),
        lead=f"{meta['model']['name']}, version {predictor.version}, bundle {predictor.hash[:12]}",
        body=[
            STYLE,
            *shown,
            form,
            page.section(
                "How it decides",
                page.paragraph(f"Classes: {', '.join(meta['classes'])}. Positive: {positive}."),
                page.paragraph(threshold),
                *([page.paragraph(BY_PATIENT)] if predictor.needs_patients else []),
                page.paragraph(
                    "It gives no class where it is too close to call or far from anything seen in training. "
                    "Every answer is written down; a wrong one can be corrected."
                ),
                page.link("docs", "All requests, to read and to try"),
            ),
        ],
    )
    return HTMLResponse(text, status)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _file_form(predictor: Predictor) -> str:
    patient = (
        f'<label for="patient">{escape(WHOSE)}</label>'
        f'<input id="patient" name="patient" maxlength="{LONGEST_PATIENT}" autocomplete="off">'
    )
    return (
        '<form class="ask" method="post" enctype="multipart/form-data">'
        '<label for="files">Choose scans (PNG, JPEG or DICOM)</label>'
        f'<input id="files" name="files" type="file" accept="{ACCEPT}" multiple required>'
        f"{patient if predictor.needs_patients else ''}"
        '<div><button type="submit">Predict</button></div></form>'
    )


def _row_form(predictor: Predictor) -> str:
    fields = "".join(_field(column) for column in predictor.preparer.columns)
    return (
        '<form class="ask" method="post"><label>Values of one case; leave empty what is unknown</label>'
        f'<div class="fields">{fields}</div><button type="submit">Predict</button></form>'
    )


def _field(column: Any) -> str:
    kind = ' inputmode="decimal"' if column.kind == "number" else ""
    return f'<label>{escape(column.name)}<input name="{attribute(column.name)}" autocomplete="off"{kind}></label>'


def _answer(prediction: Prediction, *, file: str = "", picture: bytes = b"", values: Row | None = None) -> str:
    said = prediction.label if prediction.label is not None else "No class"
    why = f"<p>{escape(prediction.reason)}</p>" if prediction.reason else ""
    remaining = ", ".join(prediction.conformal_set)
    image = page.figure(picture, caption="What speaks for the class, in colour") if picture else ""
    kind = "none" if prediction.abstained else ""
    return (
        f'<section class="answer {kind}"><div><p class="soft file">{escape(file) or "Answer"}</p>'
        f'<p class="class">{escape(said)}</p>{why}{_shares(prediction)}'
        f"<p>Classes that remain possible: {escape(remaining)}</p>"
        f'<p class="soft">Prediction <code>{escape(prediction.id)}</code>, {prediction.latency_ms:.0f} ms</p></div>'
        f"{image}{_values(values) if values else ''}</section>"
    )


def _values(row: Row) -> str:
    """What was read, so that a slip shows beside the answer."""
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{'unknown' if value is None else escape(_plain(value))}</dd>"
        for name, value in row.items()
    )
    return f'<div><p class="soft">Values read</p><dl class="values">{lines}</dl></div>'


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


def _shares(prediction: Prediction) -> str:
    likeliest = sorted(prediction.probabilities.items(), key=lambda one: -one[1])
    lines = (
        f'<span>{escape(name)}</span><meter min="0" max="1" value="{share:.4f}"></meter><span>{share:.1%}</span>'
        for name, share in likeliest
    )
    return f'<div class="share">{"".join(lines)}</div>'


def _refusal(file: str, error: RejectedInput) -> str:
    name = escape(file) or "Not answered"
    return (
        f'<section class="answer refused"><div><p class="soft file">{name}</p><p class="class">Cannot be used</p>'
        f"<p>{escape(words_of(error))}</p><p>{escape(error.hint)}</p></div></section>"
    )
