"""A real MLflow server, and the same behind a proxy that knows no logged models, as DagsHub's: both keep the bundle."""

from __future__ import annotations

import base64
import http.server
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.errors import RejectedInput
from medloop.registry.mlflow.tracking import Tracker
from medloop.registry.pyfunc import PredictorModel, _load_pyfunc
from medloop.registry.store import ModelStore, Version
from tests.bundle.image_bundles import draw_discs, export_project, png, write_project

UNKNOWN = "/logged-models"
SECONDS_TO_START = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    """The address of `mlflow server` on a SQLite store."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "server.log").open("wb")
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def wait_for(address: str) -> None:
    for _ in range(10 * SECONDS_TO_START):
        try:
            urllib.request.urlopen(address).close()  # noqa: S310 - our own server
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(address)


@pytest.fixture(scope="module")
def poorer(server: str) -> Iterator[str]:
    """The address of a proxy that hands everything on but logged models, which it has never heard of."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def hand_on(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            status, kind, answer = 404, "text/plain", b"404 page not found"
            if UNKNOWN not in self.path:
                kept = {name: text for name, text in self.headers.items() if name.lower() == "content-type"}
                request = urllib.request.Request(server + self.path, content, kept, method=self.command)  # noqa: S310
                try:
                    with urllib.request.urlopen(request) as found:  # noqa: S310
                        status, kind, answer = found.status, found.headers.get("Content-Type", ""), found.read()
                except urllib.error.HTTPError as error:
                    status, kind, answer = error.code, error.headers.get("Content-Type", ""), error.read()
                    error.close()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = hand_on  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()
        thread.join()


@dataclass(frozen=True)
class Recorded:
    """A version that was recorded on a server."""

    uri: str
    version: Version
    known: Any
    log: str


@pytest.fixture(scope="module", params=["server", "poorer"], ids=["a whole server", "without logged models"])
def recorded(request: pytest.FixtureRequest, finished: Path) -> Recorded:
    uri, is_poorer = request.getfixturevalue(request.param), request.param == "poorer"
    # Both write into one registry, in which a version is recorded once.
    version = replace(ModelStore(finished / "models").version(1), number=2 if is_poorer else 1)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("medloop")
    before, log.level = log.level, logging.INFO
    log.addHandler(handler)
    tracker = Tracker(uri=uri, experiment=request.param, artifacts=None)
    tracker.record(version, promoted=True)
    tracker.point(version, None, None)
    log.removeHandler(handler)
    log.setLevel(before)
    known = mlflow.MlflowClient(uri, uri).get_model_version_by_alias("finished", "champion")
    assert ("/models/m-" in known.source) is not is_poorer
    return Recorded(uri, version, known, "\n".join(lines))


@pytest.fixture
def tracked(recorded: Recorded) -> Iterator[str]:
    """The process looks at the server, as a user would after setting its address."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(recorded.uri)
    mlflow.set_registry_uri(recorded.uri)
    recorded_alias = mlflow.MlflowClient(recorded.uri, recorded.uri).set_registered_model_alias
    recorded_alias("finished", "champion", recorded.known.version)
    yield "models:/finished@champion"
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def test_the_version_is_registered_with_its_origin(recorded: Recorded) -> None:
    expected = {"medloop_version": str(recorded.version.number), "bundle": recorded.version.bundle, "verdict": "passed"}
    assert expected.items() <= recorded.known.tags.items()
    assert {"data_version", "edition", "recipe"} <= set(recorded.known.tags)
    assert ("no logged models on this" in recorded.log) is ("/models/m-" not in recorded.known.source)


def test_its_bundle_verifies_after_a_download(recorded: Recorded, tracked: str, tmp_path: Path) -> None:
    folder = mlflow.artifacts.download_artifacts(tracked, dst_path=str(tmp_path))
    assert files.verify(Path(folder) / "data" / "bundle") == recorded.version.bundle


def test_mlflow_loads_it_and_it_answers_as_the_bundle_does(recorded: Recorded, tracked: str) -> None:
    predictor = Predictor.load(recorded.version.folder / "bundle")
    frame = pd.DataFrame([predictor.example()] * 2).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow says of its own environment is not ours
        answers = mlflow.pyfunc.load_model(tracked).predict(frame)
    (said,) = predictor.predict([predictor.example()])
    assert [answer["malignant"] for answer in answers] == [pytest.approx(said.probabilities["malignant"])] * 2


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> PredictorModel:
    """What MLflow loads for a bundle that takes images."""
    parts = {"train": 32, "val": 16, "calib": 32, "test": 8}
    folder = write_project(tmp_path_factory.mktemp("images"), mode="finetune", parts=parts, epochs=1)
    export_project(folder)
    return _load_pyfunc(str(folder / "bundle"))


@pytest.mark.parametrize("form", [bytes, lambda data: base64.b64encode(data).decode()], ids=["bytes", "base64"])
@pytest.mark.parametrize("column", ["image", "0"])
def test_an_image_bundle_answers_for_bytes_and_for_base64(images: PredictorModel, form: Any, column: str) -> None:
    pictures = [png(disc.pixels) for disc in draw_discs(3, seed=1)]
    answers = images.predict(pd.DataFrame({column: [form(data) for data in pictures]}))
    for answer, said in zip(answers, images.predictor.predict(pictures), strict=True):
        assert answer["disc"] == pytest.approx(said.probabilities["disc"])
        assert (answer["label"], answer["reason"]) == (said.label, said.reason)


@pytest.mark.parametrize("broken", [b"no picture", "no base64!", None, 3])
def test_an_image_that_cannot_be_read_is_told_in_its_row(images: PredictorModel, broken: Any) -> None:
    bad, good = images.predict(pd.DataFrame({"image": [broken, png(draw_discs(1, seed=1)[0].pixels)]}))
    assert (bad["label"], bad["disc"]) == (None, None)
    assert bad["reason"]
    assert good["disc"] is not None


def test_each_slice_carries_the_answer_of_its_patient(images: PredictorModel) -> None:
    predictor = copy(images.predictor)
    predictor.decider = replace(predictor.decider, per="patient", rule="noisy-or")
    pictures, patients = [png(disc.pixels) for disc in draw_discs(4, seed=1)], ["a", "b", "a", "b"]
    frame = pd.DataFrame({"image": pictures, "patient": patients})
    answers = PredictorModel(predictor).predict(frame)
    said = predictor.predict(pictures, patients=patients)
    assert [one["disc"] for one in answers] == pytest.approx([one.probabilities["disc"] for one in said * 2], abs=1e-6)
    with pytest.raises(RejectedInput, match="decides per patient"):
        PredictorModel(predictor).predict(frame[["image"]])
