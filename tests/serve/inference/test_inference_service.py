"""Which session predicts, which files share a batch, and that all predictions are stored."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import RejectedInput
from medloop.feedback import FeedbackAway, open_feedback
from medloop.registry.follow import LoadedModel
from medloop.serve.http.access import LOCAL
from medloop.serve.http.uploads import Upload
from medloop.serve.inference import inference_service
from medloop.serve.inference.inference_service import MAX_IMAGE_BATCH, Caller
from medloop.serve.inference.predict import predict_images
from medloop.serve.service import Service
from medloop.settings import ServeSettings, Settings
from tests.bundle.image_bundles import png

CALLER = Caller(key=LOCAL, trace="0" * 32)


def open_service(serving: LoadedModel, root: Path) -> Service:
    settings = Settings(serve=ServeSettings(auth=False, threads=1))
    return Service(settings, root=root, serving=serving, feedback=open_feedback(settings.feedback, root=root))


@pytest.fixture
def service(image_predictor: Predictor, tmp_path: Path) -> Iterator[Service]:
    opened = open_service(LoadedModel(predictor=image_predictor, wide=copy(image_predictor)), tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Predictor, list[bytes]]]:
    """The predictor and the files of each batch."""
    found: list[tuple[Predictor, list[bytes]]] = []

    def record(predictor: Predictor, files: Sequence[bytes], *, keep: bool) -> Any:
        found.append((predictor, list(files)))
        return predict_images(predictor, files, keep=keep)

    monkeypatch.setattr(inference_service, "predict_images", record)
    return found


def wait_for(event: threading.Event) -> None:
    assert event.wait(60)


def predict(service: Service, *requests: Sequence[bytes]) -> list[list[Prediction | RejectedInput]]:
    """Return the results of requests that all arrive before the one thread is free for them."""

    async def run() -> list[list[Prediction | RejectedInput]]:
        free = threading.Event()
        service.engine.start(partial(wait_for, free))
        uploads = [[Upload(name=f"{number}", data=data) for number, data in enumerate(files)] for files in requests]
        results = asyncio.gather(*(service.predict_files(files, CALLER) for files in uploads))
        while service.engine.requests < len(requests):
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        free.set()
        return await results

    return asyncio.run(run())


def test_a_single_request_uses_all_cores(
    service: Service, batches: list[tuple[Predictor, list[bytes]]], scans: list[bytes]
) -> None:
    predict(service, scans[:1])
    assert batches == [(service.serving.wide, scans[:1])]


def test_results_are_in_order_and_stored(service: Service, scans: list[bytes]) -> None:
    files = [*scans[:5], b"no image", *scans[5:9]]
    (results,) = predict(service, files)
    assert isinstance(results[5], RejectedInput)
    for result, data in zip(results, files, strict=True):
        if isinstance(result, Prediction):
            assert result.probabilities == service.serving.predictor.predict([data])[0].probabilities
            stored = service.feedback.prediction(result.id)
            assert stored is not None
            assert stored.prediction == result


def test_waiting_images_share_batches_across_requests(
    service: Service, batches: list[tuple[Predictor, list[bytes]]], scans: list[bytes]
) -> None:
    results = predict(service, *([data] for data in scans[:9]))
    assert all(isinstance(result, Prediction) for (result,) in results)
    sizes = [len(files) for _, files in batches]
    assert sum(sizes) == 9
    assert max(sizes) == MAX_IMAGE_BATCH


def test_a_large_image_is_predicted_alone(
    service: Service, batches: list[tuple[Predictor, list[bytes]]], scans: list[bytes]
) -> None:
    large = png(np.tile(np.arange(250, dtype=np.uint8), (2_500, 10)))
    predict(service, [scans[0]], [scans[1]], [large], [scans[2]], [scans[3]])
    (files,) = (files for _, files in batches if large in files)
    assert files == [large]


def test_rows_that_arrive_together_share_a_commit(
    predictor: Predictor, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service(LoadedModel(predictor=predictor), tmp_path)
    commits: list[int] = []
    submit = service.feedback.submit

    def record(answered: Sequence[Any], **options: Any) -> Any:
        commits.append(len(answered))
        return submit(answered, **options)

    async def run() -> list[list[Prediction]]:
        requests = (service.predict_rows([row], ["features"], CALLER) for row in rows[:3])
        return await asyncio.gather(*requests)

    monkeypatch.setattr(service.feedback, "submit", record)
    try:
        results = asyncio.run(run())
        assert commits == [3]
        assert all(service.feedback.prediction(prediction.id) for (prediction,) in results)
    finally:
        service.close()


@pytest.mark.parametrize("count", [1, 40])
def test_rows_that_cannot_be_stored_have_no_prediction(
    predictor: Predictor, rows: list[Row], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service(LoadedModel(predictor=predictor), tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise FeedbackAway("The database cannot be reached.")

    monkeypatch.setattr(service.feedback, "submit", fail)
    table = (rows * count)[:count]
    try:
        with pytest.raises(FeedbackAway):
            asyncio.run(service.predict_rows(table, [f"records.{number}" for number in range(count)], CALLER))
    finally:
        service.close()
