"""Which session answers whom, and which files are shown to the model at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction
from medloop.errors import RejectedInput
from medloop.feedback import open_feedback
from medloop.serve import answering
from medloop.serve.access import LOCAL
from medloop.serve.answering import Asker
from medloop.serve.answers import answer_images
from medloop.serve.champion import Serving
from medloop.serve.service import Service
from medloop.serve.uploads import Upload
from medloop.settings import ServeSettings, Settings
from tests.bundle.image_bundles import png

ASKER = Asker(key=LOCAL, trace="0" * 32)


@pytest.fixture
def service(image_predictor: Predictor, tmp_path: Path) -> Iterator[Service]:
    settings = Settings(serve=ServeSettings(auth=False, threads=1))
    serving = Serving(predictor=image_predictor, wide=copy(image_predictor))
    opened = Service(settings, root=tmp_path, serving=serving, feedback=open_feedback(settings.feedback, root=tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Predictor, int]]:
    """Whom was asked, and for how many files at once."""
    calls: list[tuple[Predictor, int]] = []

    def noted(predictor: Predictor, files: Sequence[bytes], *, keep: bool) -> Any:
        calls.append((predictor, len(files)))
        return answer_images(predictor, files, keep=keep)

    monkeypatch.setattr(answering, "answer_images", noted)
    return calls


def wait_for(event: threading.Event) -> None:
    assert event.wait(60)


def ask(service: Service, *requests: Sequence[bytes]) -> list[list[Prediction | RejectedInput]]:
    """The answers to requests that have all come before the one thread is free for them."""

    async def run() -> list[list[Prediction | RejectedInput]]:
        free = threading.Event()
        service.engine.start(partial(wait_for, free))
        uploads = [[Upload(name=f"{number}", data=data) for number, data in enumerate(files)] for files in requests]
        answers = asyncio.gather(*(service.predict_files(files, ASKER) for files in uploads))
        while service.engine.requests < len(requests):
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        free.set()
        return await answers

    return asyncio.run(run())


def test_a_file_alone_has_all_cores(service: Service, asked: list[tuple[Predictor, int]], scans: list[bytes]) -> None:
    ask(service, scans[:1])
    assert asked == [(service.serving.wide, 1)]


def test_files_that_wait_are_answered_together_and_in_their_order(
    service: Service, asked: list[tuple[Predictor, int]], scans: list[bytes]
) -> None:
    files = [*scans[:5], b"no picture", *scans[5:9]]
    (answers,) = ask(service, files)
    assert {predictor for predictor, _ in asked} == {service.serving.predictor}
    assert sum(number for _, number in asked) == len(files)
    assert asked[0][1] == answering.MOST_PICTURES
    assert isinstance(answers[5], RejectedInput)
    for answer, data in zip(answers, files, strict=True):
        if isinstance(answer, Prediction):
            assert answer.probabilities == service.serving.predictor.predict([data])[0].probabilities
            stored = service.feedback.prediction(answer.id)
            assert stored is not None
            assert stored.prediction == answer


def test_requests_share_a_batch(service: Service, asked: list[tuple[Predictor, int]], scans: list[bytes]) -> None:
    answers = ask(service, *([data] for data in scans[:7]))
    assert all(isinstance(answer, Prediction) for (answer,) in answers)
    # The first came alone.
    assert [number for _, number in asked] == [1, 4, 2]


def test_nobody_waits_for_a_large_picture(
    service: Service, asked: list[tuple[Predictor, int]], scans: list[bytes]
) -> None:
    import numpy as np

    large = png(np.tile(np.arange(250, dtype=np.uint8), (2_500, 10)))
    ask(service, [scans[0]], [scans[1]], [large], [scans[2]], [scans[3]])
    assert not service.serving.predictor.is_light(large)
    assert service.serving.predictor.is_light(scans[0])
    assert [number for _, number in asked] == [1, 1, 1, 2]
