"""Pictures over HTTP: an answer a file, a named rejection a bad one, and what was answered before."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from medloop.bundle.predictor import Predictor
from medloop.decode.raster import decode
from tests.bundle.image_bundles import SIZE
from tests.decode.dicom_files import dicom, ramp
from tests.serve.conftest import TestClient


def files_of(scans: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"scan{number}.png", scan)) for number, scan in enumerate(scans)]


def as_format(kind: str, **options: Any) -> bytes:
    grey = np.random.default_rng(0).integers(60, 140, (SIZE, SIZE), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_file_gets_the_prediction_of_the_predictor(
    images: TestClient, image_predictor: Predictor, scans: list[bytes]
) -> None:
    answer = images.post("/v1/predictions", files=files_of(scans))
    assert answer.status_code == 200
    bodies = answer.json()["predictions"]
    assert [body["file"] for body in bodies] == [f"scan{number}.png" for number in range(len(scans))]
    assert answer.json()["rejected"] == []
    for body, expected in zip(bodies, image_predictor.predict(scans), strict=True):
        assert body["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
        assert (body["label"], body["reason"]) == (expected.label, expected.reason)
    assert len({body["id"] for body in bodies}) == len(scans)
    assert {body["label"] for body in bodies} >= {"clear", "disc"}


def test_a_bad_file_is_named_and_the_99_good_ones_are_predicted(images: TestClient, scans: list[bytes]) -> None:
    files = files_of([*scans[:10]] * 10)
    files[42] = ("files", ("broken.png", scans[0][:100]))
    body = images.post("/v1/predictions", files=files).json()
    assert len(body["predictions"]) == 99
    (rejected,) = body["rejected"]
    assert (rejected["file"], rejected["number"]) == ("broken.png", 42)
    assert "cut off" in rejected["message"] or "whole" in rejected["message"]


def test_the_short_forms_return_the_same_prediction(images: TestClient, scans: list[bytes]) -> None:
    text = base64.b64encode(scans[1]).decode()
    answers = [
        images.post("/predict", files={"file": ("a.png", scans[1])}),
        images.post("/predict", json={"image": text}),
        images.post("/predict", json={"image": f"data:image/png;base64,{text}"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({str(answer.json()["probabilities"]) for answer in answers}) == 1


FORMATS = {
    "jpeg": lambda: as_format("JPEG"),
    "bmp": lambda: as_format("BMP"),
    "tiff": lambda: as_format("TIFF"),
    "dicom": lambda: dicom(ramp(SIZE, SIZE)),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_other_formats_are_accepted_under_any_name(images: TestClient, kind: str) -> None:
    answer = images.post("/predict", files={"file": ("scan.png", FORMATS[kind]())})
    assert answer.status_code == 200, answer.text


def test_a_colour_photo_and_a_blank_page_get_no_class_but_a_reason(images: TestClient) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    for pixels, reason in ((colour, "colour picture"), (np.zeros((SIZE, SIZE), np.uint8), "blank picture")):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        body = images.post("/predict", files={"file": ("x.png", buffer.getvalue())}).json()
        assert body["label"] is None
        assert body["abstained"] is True
        assert body["reason"].startswith(reason)


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "features": ({"json": {"features": [1, 2]}}, 422, "takes images"),
    "no base64": ({"json": {"image": "???"}}, 422, "The field `image` is not base64"),
    "an empty text": ({"json": {"image": ""}}, 422, "body.image"),
    "no picture": ({"json": {"image": base64.b64encode(b"hello").decode()}}, 422, "The file is a text file"),
    "an empty file": ({"files": {"file": ("a.png", b"")}}, 422, "The file is empty"),
    "two files": ({"files": [("file", ("a", b"1")), ("file", ("b", b"2"))]}, 422, "takes one file"),
    "a field": ({"files": {"file": (None, b"1")}}, 422, "contains no file"),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 422, "multipart"),
    "cut": ({"content": b"--a\r\nx", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 422, "multipart"),
    "SVG": ({"files": {"file": ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>")}}, 422, "SVG"),
    "PDF": ({"files": {"file": ("a.png", b"%PDF-1.7 ...")}}, 422, "PDF"),
}


@pytest.mark.parametrize(("request_", "status", "told"), WRONG.values(), ids=WRONG)
def test_input_that_is_not_an_image_is_refused(
    images: TestClient, request_: dict[str, Any], status: int, told: str
) -> None:
    answer = images.post("/predict", **request_)
    assert answer.status_code == status
    assert told in answer.json()["message"]


def test_files_for_a_table_are_refused(client: TestClient, scans: list[bytes]) -> None:
    answer = client.post("/predict", files={"file": ("a.png", scans[0])})
    assert answer.status_code == 422
    assert "takes records" in answer.json()["message"]


def test_too_many_files_are_refused(images: TestClient) -> None:
    answer = images.post("/v1/predictions", files=files_of([b"x"] * 129))
    assert answer.status_code == 413
    assert "more than 128 files" in answer.json()["message"]


def test_all_bad_files_are_named_together(images: TestClient) -> None:
    answer = images.post("/v1/predictions", files=files_of([b"", b"%PDF-"]))
    assert answer.status_code == 422
    assert all(text in answer.json()["message"] for text in ("File 1: ", "File 2: ", "PDF"))


def test_a_stored_prediction_has_its_image_and_heatmap(
    images: TestClient, image_predictor: Predictor, scans: list[bytes]
) -> None:
    given = images.post("/predict", files={"file": ("a.png", scans[1])}).json()
    stored = images.get(f"/v1/predictions/{given['id']}").json()
    assert {**given, "latency_ms": stored["latency_ms"]}.items() <= stored.items()
    picture = images.get(f"/v1/predictions/{given['id']}/input.png")
    assert picture.headers["content-type"] == "image/png"
    assert (decode(picture.content).pixels == decode(scans[1]).pixels).all()
    heatmap = images.get(f"/v1/predictions/{given['id']}/heatmap.png")
    assert heatmap.content == image_predictor.heatmap(scans[1])


@pytest.mark.parametrize("kind", ["tiff", "jpeg", "dicom"])
def test_the_stored_image_has_the_same_prediction(images: TestClient, image_predictor: Predictor, kind: str) -> None:
    given = images.post("/predict", files={"file": ("a", FORMATS[kind]())}).json()
    kept = images.get(f"/v1/predictions/{given['id']}/input.png").content
    (again,) = image_predictor.predict([kept])
    assert given["probabilities"] == pytest.approx(again.probabilities, abs=1e-6)


def test_patient_data_in_a_file_is_not_stored(images: TestClient) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "Jane Doe")
    given = images.post("/predict", files={"file": ("Jane Doe.png", as_format("PNG", pnginfo=info))}).json()
    kept = images.get(f"/v1/predictions/{given['id']}/input.png").content
    assert kept.startswith(b"\x89PNG")
    assert b"Jane" not in kept
    assert "Jane" not in images.get(f"/v1/predictions/{given['id']}").text


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "x" * 32, "%23", "A" * 32, "0" * 31])
@pytest.mark.parametrize("rest", ["", "/input.png", "/heatmap.png"])
def test_an_invalid_id_is_refused(images: TestClient, name: str, rest: str) -> None:
    assert images.get(f"/v1/predictions/{name}{rest}").status_code in (404, 405, 422)


@pytest.mark.parametrize("rest", ["", "/input.png", "/heatmap.png"])
def test_an_unknown_id_is_not_found(images: TestClient, rest: str) -> None:
    assert images.get(f"/v1/predictions/{'0' * 32}{rest}").status_code == 404
