"""Spans of requests, as a real collector over OTLP/HTTP receives them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.serve.telemetry.tracing import END_SECONDS, Tracing, open_tracing
from tests.serve.conftest import served

BODY = {"features": [50, 10.0, 1.0, 0, "left", "I"]}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Takes spans, and keeps the bytes as they came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.status = 200
        self.released = threading.Event()
        self.released.set()

    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.released.wait(120)
        self.server.bodies.append(body)
        self.server.paths.add(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def facts_of(span: Span) -> dict[str, Any]:
    values = {one.key: one.value for one in span.attributes}
    return {name: getattr(value, str(value.WhichOneof("value"))) for name, value in values.items()}


def test_each_request_is_one_span_with_the_trace_id_of_its_response(
    collector: Collector, predictor: Predictor, tmp_path: Path
) -> None:
    with served(predictor, tmp_path, otlp=collector.address) as client:
        answers = [client.post("/predict", json=BODY), client.post("/predict", json={}), client.get("/nowhere")]
    spans = collector.spans()
    assert collector.paths == {"/v1/traces"}
    assert [span.trace_id.hex() for span in spans] == [answer.headers["X-Trace-Id"] for answer in answers]
    assert [span.name for span in spans] == ["POST /predict", "POST /predict", "other"]
    assert {span.kind for span in spans} == {Span.SPAN_KIND_SERVER}
    assert not any(span.parent_span_id for span in spans)
    facts = [facts_of(span) for span in spans]
    assert [one["http.response.status_code"] for one in facts] == [200, 422, 404]
    assert 0 < facts[0]["medloop.infer_seconds"] < (spans[0].end_time_unix_nano - spans[0].start_time_unix_nano) / 1e9
    assert {"medloop.decode_seconds", "medloop.store_seconds"} <= set(facts[0])
    assert not any(name.startswith("medloop.") for one in facts[1:] for name in one)


def test_the_callers_span_is_the_parent_and_its_sampling_flag_is_respected(
    collector: Collector, predictor: Predictor, tmp_path: Path
) -> None:
    with served(predictor, tmp_path, otlp=collector.address) as client:
        for flags in ("00", "01", "03"):
            answer = client.post("/predict", json=BODY, headers={"traceparent": f"00-{TRACE}-{CALLER}-{flags}"})
            assert answer.headers["X-Trace-Id"] == TRACE
    assert [(span.trace_id.hex(), span.parent_span_id.hex()) for span in collector.spans()] == [(TRACE, CALLER)] * 2


@pytest.mark.parametrize(
    "given",
    [
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{TRACE.upper()}-{CALLER}-01",
        "",
    ],
    ids=["no trace", "no span", "no version", "capitals", "nothing"],
)
def test_an_invalid_traceparent_starts_a_new_trace(
    given: str, collector: Collector, predictor: Predictor, tmp_path: Path
) -> None:
    with served(predictor, tmp_path, otlp=collector.address) as client:
        told = client.get("/healthz", headers={"traceparent": given}).headers["X-Trace-Id"]
    assert told.lower() not in (TRACE, "0" * 32)
    assert [(span.trace_id.hex(), span.parent_span_id) for span in collector.spans()] == [(told, b"")]


def test_steps_of_several_files_are_added_up_and_no_file_name_is_sent(
    collector: Collector, image_predictor: Predictor, scans: list[bytes], tmp_path: Path
) -> None:
    files = [("files", (f"Meier-{number}.png", scan, "image/png")) for number, scan in enumerate(scans[:3])]
    with served(image_predictor, tmp_path, otlp=collector.address, auth=True) as client:
        secret = client.app.state.service.feedback.keys.first_admin()  # type: ignore[attr-defined]
        answer = client.post(
            "/v1/predictions?patient=Meier", files=files, headers={"Authorization": f"Bearer {secret}"}
        )
        assert len(answer.json()["predictions"]) == 3
    (span,) = collector.spans()
    facts = facts_of(span)
    assert min(facts[f"medloop.{step}_seconds"] for step in ("decode", "infer")) > 0
    sent = b"".join(collector.bodies)
    assert not [
        word for word in (b"Meier", secret.encode(), answer.json()["predictions"][0]["id"].encode()) if word in sent
    ]


def test_an_unreachable_or_slow_collector_fails_no_request(
    collector: Collector, predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector.released.clear()
    for number, address in enumerate(("http://127.0.0.1:1", collector.address)):
        (tmp_path / str(number)).mkdir()
        with served(predictor, tmp_path / str(number), otlp=address) as client:
            for _ in range(20):
                assert client.post("/predict", json=BODY).status_code == 200
            started = time.monotonic()
        assert time.monotonic() - started < END_SECONDS + 15


def test_environment_variables_add_no_other_telemetry(
    collector: Collector, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    with served(predictor, tmp_path) as client:
        assert client.get("/v1/predictions/Meier").status_code == 422
    assert collector.bodies == []


def test_an_outage_of_the_collector_is_logged_at_its_beginning_and_end(
    collector: Collector, predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(predictor, tmp_path, otlp=collector.address) as client:
        send = client.app.state.tracing.flush  # type: ignore[attr-defined]
        for status in (200, 400, 400, 200, 200):
            collector.status = status
            assert client.get("/healthz").status_code == 200
            send()
    told = [record.getMessage() for record in caplog.records if "collector" in record.getMessage()]
    assert told == ["the trace collector is unreachable", "the trace collector is reachable again"]


def test_the_service_loads_opentelemetry_only_if_configured() -> None:
    program = (
        "import sys, medloop.serve.app; print(sorted({'opentelemetry.sdk', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_a_collector_there_is_no_tracing_and_a_missing_library_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert open_tracing(None) is None
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UserError, match=r'pip install "medloop\[otel\]"'):
        Tracing("http://collector:4318")
