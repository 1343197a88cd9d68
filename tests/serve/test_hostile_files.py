"""Files that would take minutes or gigabytes are refused by a real service within seconds, and it lives on."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.bundle.image_bundles import SIZE
from tests.decode.dicom.test_picture import MALFORMED
from tests.decode.dicom_files import dicom, nested, part10, ramp, shipped
from tests.decode.picture_files import animated_png, grey, huge_png, jpeg, paged_tiff, with_orientation
from tests.decode.test_pool import BOMBS, mutated
from tests.serve.processes import Running, serving
from tests.serve.test_load import processes

SECONDS = 15.0
MOST_KIBIBYTES = 400_000
HOSTILE = {
    "13,300 x 13,300 pixels": huge_png(13_300, 13_300),
    "10,000 frames": animated_png(10_000),
    "10,000 pages": paged_tiff(10_000),
    "300 nested sequences": part10(nested(300, defined=True)),
    **BOMBS,
    **{name: dicom(ramp(), **values) for name, values in MALFORMED.items()},
}


@pytest.fixture(scope="module")
def service(image_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving("--bundle", image_bundle, cwd=tmp_path_factory.mktemp("hostile")) as service:
        ask(service, dicom(ramp(SIZE, SIZE)))  # so that the decoder has started
        yield service


def ask(service: Running, data: bytes) -> httpx.Response:
    with service.client() as client:
        return client.post("/predict", files={"file": ("scan.png", data)})


def test_it_is_refused_quickly_with_little_memory(service: Running) -> None:
    for name, data in HOSTILE.items():
        started = time.monotonic()
        answer = ask(service, data)
        assert (answer.status_code, time.monotonic() - started < SECONDS) == (422, True), name
        assert answer.json()["error"] == "RejectedInput"
    family = [size for pid, parent, size in processes() if service.process.pid in (pid, parent)]
    assert max(family) < MOST_KIBIBYTES
    with service.client() as client:
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "JPEGLSNearLossless_16.dcm"])
def test_corrupted_streams_for_rare_decoders_are_predicted_or_refused(service: Running, name: str) -> None:
    chance, whole = random.Random(0), shipped(name)  # noqa: S311 - the same files every time
    files = [("files", (str(number), mutated(whole, chance))) for number in range(100)]
    with service.client() as client:
        answer = client.post("/v1/predictions", files=files)
        assert answer.status_code in (200, 422)
        assert client.get("/readyz").status_code == 200
    assert ask(service, dicom(ramp(SIZE, SIZE))).status_code == 200


def probabilities(service: Running, data: bytes) -> Any:
    answer = ask(service, data)
    assert answer.status_code == 200, answer.text
    return answer.json()["probabilities"]


def test_one_image_has_the_same_prediction_in_every_format(service: Running) -> None:
    pixels = ramp(SIZE, SIZE, low=0, step=1)
    plain = probabilities(service, dicom(pixels))
    assert probabilities(service, dicom(pixels, PhotometricInterpretation="MONOCHROME1")) != plain
    inverted = (pixels.max() - pixels).astype(np.int16)
    assert probabilities(service, dicom(inverted, PhotometricInterpretation="MONOCHROME1")) == pytest.approx(plain)


def test_a_rotated_photo_is_rotated_back(service: Running) -> None:
    picture = grey(SIZE, SIZE)
    upright, on_its_head = jpeg(picture), jpeg(np.ascontiguousarray(picture[::-1, ::-1]))
    turned = probabilities(service, with_orientation(on_its_head, 3))
    assert turned == pytest.approx(probabilities(service, upright), abs=0.02)
