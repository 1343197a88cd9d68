"""Bodies that are too large, too slow or lie about their length, and more requests than can be answered."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from medloop.bundle.predictor import Predictor
from tests.serve.conftest import TestClient, served
from tests.serve.processes import Running, serving

BODY = json.dumps({"features": [50, 10.0, 1.0, 0, "left", "I"]}).encode()
LIMITS = {"head_seconds": 1, "body_seconds": 1, "max_body_mib": 2, "log_requests": False}


@pytest.fixture(scope="module")
def strict(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A real service with little patience."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "config.yaml").write_text(yaml.safe_dump({"serve": LIMITS}), encoding="utf-8")
    with serving("--bundle", golden, "--no-auth", cwd=folder) as service:
        yield service


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def sent(service: Running, *pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """What came back until the service closed, and how long that took."""
    started, answer = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass  # it was cut, as it should be
        try:
            while data := connection.recv(65_536):
                answer += data
        except ConnectionResetError:
            pass  # cut while we were still sending
    return answer, time.monotonic() - started


def still_answers(service: Running) -> bool:
    with service.client() as client:
        return client.post("/predict", content=BODY).status_code == 200


def test_a_declared_length_beyond_the_limit_is_refused_at_once(strict: Running) -> None:
    answer, seconds = sent(strict, head(f"Content-Length: {100 << 20}"), b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert seconds < 15.0
    assert still_answers(strict)


def test_100_mb_are_cut(strict: Running) -> None:
    answer, seconds = sent(strict, head(f"Content-Length: {100 << 20}"), *[b"x" * (1 << 20)] * 100)
    assert b" 413 " in answer[:20] or not answer
    assert seconds < 15.0
    assert still_answers(strict)


def test_endless_chunks_are_cut(strict: Running) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer, _ = sent(strict, head("Transfer-Encoding: chunked"), *[chunk] * 200)
    assert b" 413 " in answer[:20] or not answer
    assert still_answers(strict)


def test_a_slow_body_is_cut(strict: Running) -> None:
    answer, seconds = sent(strict, head("Content-Length: 100"), *[b"x"] * 20, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in answer or b"connection: close" in answer
    assert seconds < 15.0


@pytest.mark.parametrize("path", ["/predict", "/v1/predictions", "/v1/corrections", "/"])
def test_every_place_that_takes_a_body_has_its_limits(strict: Running, path: str) -> None:
    begin = head("Content-Length: 100").replace(b"/predict", path.encode())
    assert sent(strict, begin, b"{")[0].startswith(b"HTTP/1.1 408 ")
    chunks = head("Transfer-Encoding: chunked").replace(b"/predict", path.encode())
    answer, _ = sent(strict, chunks, *[b"10000\r\n" + b" " * 0x10000 + b"\r\n"] * 100)
    assert b" 413 " in answer[:20] or not answer


def test_slow_headers_are_cut(strict: Running) -> None:
    answer, seconds = sent(strict, b"GET /healthz HTTP/1.1\r\n", *[b"a"] * 20, pause=0.1)
    assert answer == b""
    assert seconds < 15.0


def test_a_silent_connection_is_cut(strict: Running) -> None:
    answer, seconds = sent(strict)
    assert (answer, seconds < 15.0) == (b"", True)


def test_a_slow_second_request_on_a_kept_connection_is_cut(strict: Running) -> None:
    first = head(f"Content-Length: {len(BODY)}") + BODY
    answer, _ = sent(strict, first, *[b"G"] + [b"x"] * 20, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 200") == 1


def test_endless_headers_are_cut(strict: Running) -> None:
    answer, _ = sent(strict, b"GET / HTTP/1.1\r\nX: ", *[b"x" * 65_536] * 50)
    assert b"200" not in answer[:20]
    assert still_answers(strict)


@pytest.mark.parametrize(
    "lines",
    [("Content-Length: -1",), ("Content-Length: 1", "Content-Length: 5"), ("Content-Length: x",), ("a b: c",)],
    ids=["negative", "two", "a word", "a space in a name"],
)
def test_a_broken_head_is_refused(strict: Running, lines: tuple[str, ...]) -> None:
    answer, _ = sent(strict, head(*lines), b"xxxxx")
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""


def test_a_body_shorter_than_declared_times_out(strict: Running) -> None:
    answer, seconds = sent(strict, head(f"Content-Length: {len(BODY) + 50}"), BODY)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert seconds < 15.0


@pytest.mark.parametrize(
    "request_head", [head("Transfer-Encoding: +"), b"\x16\x03\x01\x02\x00\x01\r\n\r\n"], ids=["encoding", "tls"]
)
def test_invalid_http_is_refused_in_the_usual_form(request_head: bytes, strict: Running) -> None:
    answer, _ = sent(strict, request_head)
    shown, _, body = answer.partition(b"\r\n\r\n")
    assert shown.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(body)) == {"error", "message", "hint", "trace_id"}
    assert still_answers(strict)


def test_a_body_longer_than_declared_is_not_a_second_request(strict: Running) -> None:
    answer, _ = sent(strict, head(f"Content-Length: {len(BODY)}"), BODY + b"x" * 50)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 200 "))
    assert answer.count(b" 200 ") <= 1


def test_a_hundred_slow_senders_do_not_delay_others(strict: Running) -> None:
    connections = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(100)]
    try:
        for connection in connections:
            connection.sendall(head("Content-Length: 100") + b"x")
        assert still_answers(strict)
    finally:
        for connection in connections:
            connection.close()


@pytest.fixture
def slow(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, Any]]:
    """A service with room for four, whose model answers when it is told to."""
    gate = threading.Event()

    def wait(self: Predictor, cases: Any, **_: Any) -> Any:
        gate.wait(120)
        return whole(self, cases)

    whole = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", wait)
    with served(predictor, tmp_path, queue=4, threads=2) as client:
        yield client, gate


def test_requests_beyond_the_capacity_get_503_with_retry_after(slow: tuple[TestClient, threading.Event]) -> None:
    client, gate = slow
    records = {"records": [{"age (years)": 50, "Größe, cm": 1, "c0": 1, "one": 0, "label": "left"}] * 17}
    records["records"] = [{**one, "prepare/variable": "I"} for one in records["records"]]
    with ThreadPoolExecutor(40) as pool:
        futures = [pool.submit(client.post, "/v1/predictions", json=records) for _ in range(40)]
        while sum(future.done() for future in futures) < 36:
            time.sleep(0.01)
        gate.set()
        answers = [future.result() for future in futures]
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(503)) == (4, 36)
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
    assert client.post("/v1/predictions", json=records).status_code == 200


def test_the_memory_for_bodies_is_shared(predictor: Predictor, tmp_path: Path) -> None:
    with served(predictor, tmp_path, max_bodies_mib=0.001) as client:
        answer = client.post("/predict", content=b" " * 5000)
        assert answer.status_code == 503
        assert answer.json()["message"].startswith("There is no memory left")
        assert client.post("/predict", content=BODY).status_code == 200


def test_the_loop_answers_while_the_threads_are_busy(slow: tuple[TestClient, threading.Event]) -> None:
    client, gate = slow
    record = {"age (years)": 50, "Größe, cm": 1, "c0": 1, "one": 0, "label": "left", "prepare/variable": "I"}
    with ThreadPoolExecutor(2) as pool:
        future = pool.submit(client.post, "/v1/predictions", json={"records": [record] * 20})
        assert client.get("/healthz").status_code == 200
        assert not future.done()
        gate.set()
        assert future.result().status_code == 200
