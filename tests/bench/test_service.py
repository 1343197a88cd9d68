"""The service measured as it comes, with a store of its own; the project's is not touched."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medloop.bench import service as bench
from medloop.bench.load import Load, Target, load
from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.settings import FeedbackSettings, ServeSettings, Settings
from tests.loop_project import medloop

SECONDS = 0.3


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that knows just these answers; the last one over and over, and a closed connection for an empty one."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            left = list(answers)
            while self.request.recv(4096):
                answer = left.pop(0) if len(left) > 1 else left[0]
                if not answer:
                    return
                self.request.sendall(answer[:9])
                self.request.sendall(answer[9:])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def measured(port: int, *, at_once: int = 2) -> Load:
    return load(Target(port=port, request=b"GET / HTTP/1.1\r\n\r\n"), at_once=at_once, seconds=SECONDS)


def test_responses_are_counted_and_timed() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as port:
        found = measured(port)
    assert found.rate > 20
    assert 0 < found.p50 <= found.p95 <= found.p99


@pytest.mark.parametrize(
    ("response", "problem"),
    [(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503 Busy"), (b"", "it closed the connection")],
    ids=["refused", "closed"],
)
def test_a_service_that_fails_is_not_measured(response: bytes, problem: str) -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", response) as port,
        pytest.raises(UserError) as error,
    ):
        measured(port)
    assert problem in error.value.problem


def test_a_table_is_measured_without_touching_the_project(golden: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDLOOP_FEEDBACK__URL", f"sqlite:///{tmp_path}/feedback.db")
    settings = Settings(
        serve=ServeSettings(port=1, rate_limit=1, hosts=("a.example",)), feedback=FeedbackSettings(url="postgresql://x")
    )
    found = bench.bench(golden, settings, seconds=SECONDS, rounds=1, at_once=(1, 4))
    assert list(tmp_path.iterdir()) == []
    assert list(found.loads) == [1, 4]
    # A row takes far less than the way to it.
    assert all(10 < one.rate < found.bare for one in found.loads.values())
    assert found.megabytes is None or 50 < found.megabytes < 400


def test_images_are_measured(image_bundle: Path, scans: list[bytes]) -> None:
    found = bench.bench(image_bundle, Settings(), case=scans[0], seconds=SECONDS, rounds=1, at_once=(8,))
    assert found.loads[8].rate > 10
    assert found.bare > 10


def test_the_bare_loop_reads_files_that_opencv_cannot(image_bundle: Path) -> None:
    from tests.decode.dicom_files import dicom, ramp

    predictor = Predictor.load(image_bundle)
    assert bench.bare(predictor, image_bundle, dicom(ramp(40, 30)), seconds=SECONDS) > 1


def test_the_command_prints_a_table(golden: Path, tmp_path: Path, known: list[dict[str, Any]]) -> None:
    row = tmp_path / "row.json"
    row.write_text(json.dumps(known[0]["record"]), encoding="utf-8")
    words = ["--bundle", golden, "--input", row, "--seconds", SECONDS, "--rounds", 1]
    said = medloop("bench", "serve", *map(str, words), cwd=tmp_path)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split("  ")[0] == "clients"
    assert [line.split()[0] for line in lines[2:5]] == ["1", "8", "32"]
    assert lines[5].startswith("Bare model on ")
    assert list(tmp_path.iterdir()) == [row]


@pytest.mark.parametrize("text", ["[1]", "no JSON"])
def test_a_row_must_be_an_object(golden: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "row.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not a JSON object"):
        bench.case_of(golden, tmp_path / "row.json")
