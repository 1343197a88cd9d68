"""What once brought the service down: each is done to a real one, which others go on using meanwhile."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from medloop.feedback import open_feedback
from medloop.settings import FeedbackSettings
from tests.bundle.image_bundles import png
from tests.serve.processes import Running, serving, wait_until

BODY = {"features": [50, 10.0, 1.0, 0, "left", "I"]}
ROW = {"age (years)": 50, "Größe, cm": 10.0, "c0": 1.0, "one": 0, "label": "left", "prepare/variable": "I"}
# Others wait for milliseconds; what the attacks took before is minutes.
MOST_SECONDS = 30.0
MEBIBYTE = 1 << 20


def with_settings(folder: Path, **serve: object) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump({"serve": {"log_requests": False, **serve}}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def service(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = with_settings(tmp_path_factory.mktemp("attacked"), body_seconds=600)
    with serving("--bundle", golden, "--no-auth", cwd=folder) as running:
        yield running


def many_keys(count: int) -> bytes:
    """An object whose last key stands twice."""
    return b"{" + b",".join(b'"%x":0' % min(number, count - 1) for number in range(count + 1)) + b"}"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (many_keys(9_999), 422, "Duplicate key '270e'"),
        (many_keys(60_000), 422, "60,001 keys"),
        (many_keys(1_200_000), 413, "1,200,001 values"),
        (b'{"records":[' + b",".join([many_keys(9_000)] * 20) + b"]}", 422, "Duplicate key '2327'"),
        (b'{"features":[' + b"1," * 7_000_000 + b"1]}", 413, "7,000,002 values"),
        (b"[" * 15_000_000, 413, "at most 100,000 are allowed"),
        (b"[" * 90_000, 422, "nested too deeply"),
        (b'{"records":[' + b",".join([b"[" * 900 + b"]" * 900] * 8_000) + b"]}", 413, "at most 100,000 are allowed"),
        (b'{"a":' * 3_000_000, 413, "at most 100,000 are allowed"),
        (b'{"image":"' + b"A" * 15_000_000 + b'"}', 422, "takes records"),
    ],
    ids=[
        "a repeated key",
        "60000 keys",
        "1.2 million keys",
        "20 objects",
        "7 million values",
        "deep",
        "less deep",
        "nested lists",
        "nested objects",
        "one text",
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/v1/predictions"])
def test_a_large_json_body_does_not_delay_other_requests(
    path: str, body: bytes, status: int, told: str, service: Running
) -> None:
    ended = threading.Event()

    def others() -> None:
        with httpx.Client(base_url=service.address, trust_env=False, timeout=MOST_SECONDS) as client:
            while not ended.is_set():
                assert client.get("/healthz").status_code == 200

    with ThreadPoolExecutor(1) as pool, service.client() as client:
        healthy = pool.submit(others)
        try:
            answer = client.post(path, content=body)
        finally:
            ended.set()
        healthy.result()
    assert answer.status_code == status
    if path == "/predict" or "image" not in body[:20].decode():
        assert told in answer.json()["message"]


def test_a_bad_value_fails_no_other_request_of_its_batch(service: Running) -> None:
    form = {"age (years)": "50", "Größe, cm": "10", "c0": "nan", "one": "0", "label": "left", "prepare/variable": ""}

    def ask(number: int) -> tuple[str, int]:
        with service.client() as client:
            if number % 2:
                return "page", client.post("/", data=form).status_code
            return "others", client.post("/predict", json=BODY).status_code

    with ThreadPoolExecutor(24) as pool:
        found = Counter(pool.map(ask, range(240)))
    assert found == {("page", 200): 120, ("others", 200): 120}


@contextmanager
def silent_connections(port: int, count: int, *, used: httpx.Client) -> Iterator[None]:
    """Connections that send nothing; refused ones count, too. One that is `used` stays open meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as stack:
            for number in range(count):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                if number % 100 == 0:
                    assert used.get("/healthz").status_code == 200
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def from_address(address: str, service: Running) -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=service.address, transport=transport, timeout=120)


def test_1100_silent_connections_leave_enough_descriptors(golden: Path, tmp_path: Path) -> None:
    folder = with_settings(tmp_path, head_seconds=600)
    with (
        serving("--bundle", golden, "--no-auth", cwd=folder, descriptors=1024) as service,
        from_address("127.0.0.1", service) as before,
    ):
        assert before.post("/predict", json=BODY).status_code == 200
        with silent_connections(service.port, 1100, used=before):
            assert [before.post("/predict", json=BODY).status_code for _ in range(20)] == [200] * 20
            assert before.get("/readyz").status_code == 200
            with from_address("127.0.0.2", service) as elsewhere:
                assert elsewhere.post("/predict", json=BODY).status_code == 200
            with from_address("127.0.0.1", service) as refused:
                answer = refused.get("/healthz")
                assert (answer.status_code, answer.json()["error"]) == (503, "Busy")
                assert "retry-after" in answer.headers
        with from_address("127.0.0.1", service) as after:
            assert after.post("/predict", json=BODY).status_code == 200


def test_wrong_keys_lock_nobody_out(golden: Path, tmp_path: Path) -> None:
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        secrets = [feedback.keys.create(f"ward {number}", "reader")[1] for number in range(20)]
    ended = threading.Event()

    def guess(service: Running) -> Counter[int]:
        found: Counter[int] = Counter()
        with service.client(key="") as client:
            while not ended.is_set():
                key = f"ml_{len(found):012x}_{sum(found.values())}"
                found[client.get("/v1/model", headers={"X-API-Key": key}).status_code] += 1
        return found

    with serving("--bundle", golden, cwd=with_settings(tmp_path)) as service, ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(guess, service) for _ in range(8)]
        try:
            for secret in secrets:
                with service.client(key=secret) as client:
                    assert [client.get("/v1/model").status_code for _ in range(20)] == [200] * 20
        finally:
            ended.set()
        found = sum((one.result() for one in guesses), Counter[int]())
    assert set(found) == {401, 429}
    # Of this many guesses most are not even told that they are wrong, and the journal takes few.
    with closing(open_feedback(FeedbackSettings(), root=tmp_path)) as feedback:
        refusals = feedback.journal.entries(kind="refusal", limit=1000)
    assert 0 < len(refusals) < sum(found.values())


def test_uploads_are_in_memory_once(image_bundle: Path, tmp_path: Path) -> None:
    noise = png(np.random.default_rng(3).integers(0, 256, (1900, 1900, 3), dtype=np.uint8))
    limit, count = 200, 18
    assert 170 < len(noise) * count / MEBIBYTE < limit
    folder = with_settings(tmp_path, max_bodies_mib=limit, threads=1)
    start, end = body_of(noise)
    with serving("--bundle", image_bundle, "--no-auth", cwd=folder) as service, ExitStack() as stack:
        with service.client() as client:
            assert client.post("/v1/predictions", files={"files": ("a.png", noise)}).status_code == 200
        before = megabytes(service, "VmRSS")
        senders = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=600))
            for _ in range(count)
        ]
        for sender in senders:
            sender.sendall(start)
        # All are there before any of them is whole, and so all are held together.
        for sender in senders:
            sender.sendall(end)
        answers = [sender.recv(12) for sender in senders]
        assert answers == [b"HTTP/1.1 200"] * count
        # Decoding takes about 100 MiB in addition; uploads that were held twice would take 370.
        assert megabytes(service, "VmHWM") - before < limit * 2


def body_of(picture: bytes) -> tuple[bytes, bytes]:
    """A request with one picture, but for its last bytes, and those."""
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    content = part + picture + b"\r\n--x--\r\n"
    head = (
        "POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content[:-4], content[-4:]


def megabytes(service: Running, name: str) -> float:
    """What the service's process holds (VmRSS), or has held at most (VmHWM)."""
    lines = Path(f"/proc/{service.process.pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def test_uploads_beyond_the_memory_limit_get_503(image_bundle: Path, tmp_path: Path) -> None:
    folder = with_settings(tmp_path, max_bodies_mib=4)
    start, end = body_of(bytes(3 * MEBIBYTE))
    with serving("--bundle", image_bundle, "--no-auth", cwd=folder) as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=600) as first:
            first.sendall(start)
            with service.client() as client:
                # Until the first is there, the second one fits.
                while (answer := client.post("/predict", files={"file": bytes(2 * MEBIBYTE)})).status_code == 422:
                    pass
            assert (answer.status_code, answer.json()["error"]) == (503, "Busy")
            first.sendall(end)
            assert first.recv(12) == b"HTTP/1.1 422"
        with service.client() as client:
            assert client.post("/predict", files={"file": bytes(2 * MEBIBYTE)}).status_code == 422


def test_many_headers_in_a_part_take_no_memory(service: Running) -> None:
    headers = b"".join(b"h%d: x\r\n" % number for number in range(100_000))
    body = b"--x\r\n" + headers + b"\r\n\r\n--x--\r\n"
    with service.client() as client:
        answer = client.post("/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 422
        assert "incomplete or malformed" in answer.json()["message"]
        assert client.post("/predict", content=json.dumps(BODY)).status_code == 200


def sent_until_it_closes(service: Running, first: bytes, more: bytes, *, most: int) -> int:
    """Send and go on sending without reading; how many bytes until the service ends the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection:
        connection.sendall(first)
        sent = 0
        try:
            while sent < most:
                sent += connection.send(more)
        except ConnectionError:
            return sent
    raise AssertionError(f"{most} bytes were taken")


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
ENDLESS = {
    "requests that wait for each other": (b"", GET * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    "one trailer": (CHUNKED + b"0\r\na: ", b"b" * 60_000),
    "an extension of a chunk": (CHUNKED + b"2;a=", b"b" * 60_000),
}


@pytest.mark.parametrize(("first", "more"), ENDLESS.values(), ids=ENDLESS)
def test_endless_data_around_bodies_is_cut(first: bytes, more: bytes, service: Running) -> None:
    before = megabytes(service, "VmHWM")
    assert sent_until_it_closes(service, first, more, most=60 * MEBIBYTE) < 30 * MEBIBYTE
    assert megabytes(service, "VmHWM") - before < 100
    with service.client() as client:
        assert client.get("/healthz").status_code == 200


def test_pipelined_requests_of_a_service_are_answered_in_order(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection:
        connection.sendall(GET * 5)
        answer = b""
        while answer.count(b'"alive"') < 5:
            piece = connection.recv(65_536)
            assert piece
            answer += piece
    assert answer.count(b"HTTP/1.1 200") == 5


def test_a_connection_that_sends_an_empty_line_and_nothing_more_is_cut(golden: Path, tmp_path: Path) -> None:
    folder = with_settings(tmp_path, head_seconds=1)
    with (
        serving("--bundle", golden, "--no-auth", cwd=folder) as service,
        socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection,
    ):
        connection.sendall(GET)
        answer = b""
        while b'"alive"' not in answer:
            answer += connection.recv(65_536)
        connection.sendall(b"\r\n")
        assert connection.recv(65_536) == b""


def test_a_client_that_does_not_receive_is_cut(golden: Path, tmp_path: Path) -> None:
    folder = with_settings(tmp_path, body_seconds=1)
    rows = {"records": [{**ROW, "one": number} for number in range(10_000)]}
    body = json.dumps(rows).encode()
    head = f"POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serving("--bundle", golden, "--no-auth", cwd=folder) as service, socket.socket() as connection:
        # So little is taken into the system's own buffer that the rest waits in the service.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(head + body)
        with service.client() as client:
            wait_until(lambda: is_cut(service, connection))
            assert client.get("/healthz").status_code == 200


def test_a_slow_client_receives_the_whole_response(golden: Path, tmp_path: Path) -> None:
    folder = with_settings(tmp_path, body_seconds=2)
    body = json.dumps({"records": [ROW] * 10_000}).encode()
    head = (
        f"POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with serving("--bundle", golden, "--no-auth", cwd=folder) as service, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(head.encode() + body)
        answer = bytearray()
        while piece := connection.recv(65_536):
            answer += piece
            time.sleep(0.05)
    sent, _, content = bytes(answer).partition(b"\r\n\r\n")
    assert sent.startswith(b"HTTP/1.1 200")
    assert len(json.loads(content)["predictions"]) == 10_000


def is_cut(service: Running, connection: socket.socket) -> bool:
    """Whether the service holds the other end no more, as the system lists it."""
    theirs, ours = (f"0100007F:{port:04X}" for port in (service.port, connection.getsockname()[1]))
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()
    return [theirs, ours, "01"] not in [line.split()[1:4] for line in lines]


def test_few_descriptors_leave_room_for_more_than_one(golden: Path, tmp_path: Path) -> None:
    with serving("--bundle", golden, "--no-auth", cwd=tmp_path, descriptors=256) as service, ExitStack() as stack:
        clients = [stack.enter_context(service.client()) for _ in range(20)]
        assert [client.get("/healthz").status_code for client in clients] == [200] * 20
