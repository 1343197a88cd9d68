"""Uploads that were changed at random never break the service: each is answered or refused by name."""

from __future__ import annotations

import random
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from medloop.decode.pool import DecoderProcess
from tests.bundle.image_bundles import SIZE
from tests.decode.dicom_files import DEFLATED, dicom, ramp
from tests.serve.conftest import TestClient

AT_ONCE = 100


def seeds() -> list[bytes]:
    """One good file of each kind."""
    grey = np.random.default_rng(0).integers(60, 140, (SIZE, SIZE), dtype=np.uint8)
    colour = np.stack([grey, grey, grey + 1], axis=2)
    kinds = [(".png", grey), (".png", colour), (".png", grey.astype(np.uint16) * 200), (".jpg", grey), (".jpg", colour)]
    files = [cv2.imencode(kind, pixels)[1].tobytes() for kind, pixels in kinds]
    return [*files, dicom(ramp(SIZE, SIZE)), dicom(ramp(SIZE, SIZE), syntax=DEFLATED)]


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 2, 8, 64])):
        data[rng.randrange(len(data))] = rng.randrange(256)


def flip_in_the_head(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 2, 4])):
        data[rng.randrange(min(len(data), 400))] = rng.choice([0, 1, 127, 128, 255])


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def leave_out(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 64)]


def repeat(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 256)]


def append(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.randrange(1, 2000))


CHANGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(flip, flip, flip_in_the_head, flip_in_the_head),
    *(cut, leave_out, repeat, append),
)


def mutants(count: int, *, seed: int) -> list[bytes]:
    rng, files = random.Random(seed), seeds()  # noqa: S311 - the same files every time
    found = []
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(rng.choice([1, 1, 2, 3])):
            if data:
                rng.choice(CHANGES)(rng, data)
        found.append(bytes(data))
    return found


def check(client: TestClient, count: int, *, seed: int) -> tuple[int, int]:
    """How many were answered and how many refused."""
    answered = refused = 0
    for start in range(0, count, AT_ONCE):
        files = [("files", (str(one), data)) for one, data in enumerate(mutants(AT_ONCE, seed=seed + start))]
        answer = client.post("/v1/predictions", files=files)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert len(body["predictions"]) + len(body["rejected"]) == AT_ONCE
        assert "Traceback" not in answer.text
        answered, refused = answered + len(body["predictions"]), refused + len(body["rejected"])
    assert client.get("/readyz").status_code == 200
    return answered, refused


def test_two_thousand_corrupted_files_are_predicted_or_refused(images: TestClient) -> None:
    answered, refused = check(images, 2_000, seed=0)
    assert min(answered, refused) > 200


@pytest.mark.soak
def test_a_hundred_thousand_corrupted_files_are_predicted_or_refused(images: TestClient) -> None:
    answered, refused = check(images, 100_000, seed=1_000_000)
    assert min(answered, refused) > 10_000


def test_truncated_files_are_refused(images: TestClient) -> None:
    for seed in seeds():
        cuts = [seed[: len(seed) * share // 100] for share in range(100)]
        files = [("files", (str(number), data)) for number, data in enumerate(cuts)]
        answer = images.post("/v1/predictions", files=files)
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 200:
            # A decoder may make do without the last bytes; a whole picture is not made up from half of one.
            assert all(int(one["file"]) > 90 for one in answer.json()["predictions"])


def test_a_killed_decoder_is_restarted(images: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = {"file": ("a.dcm", dicom(ramp(SIZE, SIZE)))}
    assert images.post("/predict", files=scan).status_code == 200
    whole, killed = DecoderProcess._try, []

    def kill_first(self: DecoderProcess, *args: object) -> object:
        if self._process and not killed:
            killed.append(self.pid)
            self._process.kill()
        return whole(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(DecoderProcess, "_try", kill_first)
    assert images.post("/predict", files=scan).status_code == 200
    assert killed
