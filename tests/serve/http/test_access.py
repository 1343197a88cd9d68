"""Who may do what: keys, roles, rates, hosts and origins; refusals are written down."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request, Response

from medloop.bundle.predictor import Predictor
from medloop.feedback import ROLES, open_feedback
from medloop.serve.api.route import OPEN, ROLE, admit
from medloop.serve.http.access import Bucket
from medloop.serve.http.errors import install
from medloop.serve.http.guard import Guard, is_known
from medloop.serve.service import Service
from medloop.serve.telemetry.metrics import Metrics
from medloop.settings import FeedbackSettings
from tests.serve.conftest import TestClient, served
from tests.serve.processes import wait_until

FEATURES = {"features": [50, 10.0, 1.0, 0, "left", "I"]}
SOME_ID = "0" * 32


class Door:
    """A guarded service and a key of each role."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.service: Service = client.app.state.service  # type: ignore[attr-defined]
        made = {role: self.service.feedback.keys.create(role, role) for role in ROLES}
        self.ids = {role: key.id for role, (key, _) in made.items()}
        self.secrets = {role: secret for role, (_, secret) in made.items()}

    def ask(self, role: str, method: str, path: str, **options: Any) -> Any:
        return self.client.request(method, path, headers=bearer(self.secrets[role]), **options)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def door(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with served(predictor, tmp_path_factory.mktemp("door"), auth=True, wrong_key_limit=1e6) as client:
        yield Door(client)


def guarded_routes(client: TestClient) -> list[tuple[str, str, str]]:
    """Method, path and role of everything in the schema."""
    document = client.get("/openapi.json").json()
    return [
        (method.upper(), path, operation[ROLE])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def test_every_route_names_its_role_and_refuses_requests_without_a_key(door: Door) -> None:
    routes = guarded_routes(door.client)
    assert {path for _, path, role in routes if role == OPEN} == {"/healthz", "/readyz"}
    guarded = [(method, path) for method, path, role in routes if role != OPEN] + [("GET", "/"), ("POST", "/")]
    assert len(guarded) > 15
    for method, path in guarded:
        answer = door.client.request(method, path.replace("{prediction}", SOME_ID).replace("{number}", "1"))
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_route_that_names_no_role_is_for_admins(door: Door) -> None:
    async def nothing(_: Request) -> Response:
        return Response("secret")

    app = FastAPI(dependencies=[Depends(admit)])
    app.add_api_route("/new", nothing)
    app.state.service = SimpleNamespace(access=door.service.access)
    app.add_middleware(Guard, metrics=Metrics(), bodies=door.service.bodies, hosts=None)
    install(app)
    client = TestClient(app)
    assert client.get("/new").status_code == 401
    assert client.get("/new", headers=bearer(door.secrets["operator"])).status_code == 403
    assert client.get("/new", headers=bearer(door.secrets["admin"])).status_code == 200


NEEDED = {
    "POST /v1/models/1/promote": ("operator", None),
    "POST /v1/models/rollback": ("operator", None),
    f"POST /v1/corrections/{SOME_ID}/review": ("reviewer", {"decision": "accepted"}),
    "POST /predict": ("reader", FEATURES),
    "GET /v1/model": ("reader", None),
    "GET /metrics": ("reader", None),
}


@pytest.mark.parametrize("request_", NEEDED)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_includes_the_roles_below_it(door: Door, role: str, request_: str) -> None:
    needed, body = NEEDED[request_]
    method, path = request_.split()
    status = door.ask(role, method, path, json=body).status_code
    allowed = ROLES.index(role) >= ROLES.index(needed)  # type: ignore[arg-type]
    assert (status != 403) == allowed
    assert status != 401


BAD_KEYS = ["", "x", "ml_", "ml_x_y", "ml_" + "0" * 12 + "_" + "A" * 43, "é" * 20, "A" * 20_000, "Bearer", "null"]


@pytest.mark.parametrize("secret", BAD_KEYS, ids=lambda secret: secret[:12])
@pytest.mark.parametrize("form", ["bearer", "header", "basic"])
def test_a_wrong_key_is_refused_in_every_form(door: Door, secret: str, form: str) -> None:
    raw = secret.encode()
    headers = {
        "bearer": {b"Authorization": b"Bearer " + raw},
        "header": {b"X-API-Key": raw},
        "basic": {b"Authorization": b"Basic " + base64.b64encode(b"me:" + raw)},
    }[form]
    assert door.client.get("/v1/model", headers=headers).status_code == 401


@pytest.mark.parametrize("value", [b"Basic ???", b"Basic \xff", b"Digest x", b"Bearer", b"\x00"[:0]])
def test_a_broken_header_is_refused(door: Door, value: bytes) -> None:
    assert door.client.get("/v1/model", headers={b"Authorization": value}).status_code == 401


def test_a_browser_sends_the_key_as_its_password(door: Door) -> None:
    answer = door.client.get("/", auth=("anybody", door.secrets["reader"]))
    assert answer.status_code == 200
    assert "Predict" in answer.text


def test_a_key_revoked_by_another_process_is_refused_soon(door: Door) -> None:
    key, secret = door.service.feedback.keys.create("temporary", "reader")
    assert door.client.get("/v1/model", headers=bearer(secret)).status_code == 200
    with closing(open_feedback(FeedbackSettings(), root=door.service.root)) as elsewhere:
        elsewhere.keys.revoke(key.id)
    # A second on an idle machine.
    wait_until(lambda: door.client.get("/v1/model", headers=bearer(secret)).status_code == 401, seconds=20)


def test_wrong_keys_are_limited_and_valid_ones_are_not(predictor: Predictor, tmp_path: Path) -> None:
    with served(predictor, tmp_path, auth=True, wrong_key_limit=3) as client:
        door = Door(client)
        wrong = [client.get("/v1/model", headers=bearer(f"ml_{number}_x")) for number in range(50)]
        assert {answer.status_code for answer in wrong} == {401, 429}
        assert all("retry-after" in answer.headers for answer in wrong if answer.status_code == 429)
        assert {door.ask(role, "GET", "/v1/model").status_code for role in ROLES} == {200}
        # Whoever sends no key at all, as browsers do at first, tries none.
        assert {client.get("/v1/model").status_code for _ in range(20)} == {401}


def test_an_expired_key_is_refused_even_if_used_before(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = door.service.feedback.keys.create("a day", "reader", days=1)
    assert door.client.get("/v1/model", headers=bearer(secret)).status_code == 200
    monkeypatch.setattr("medloop.feedback.keys.utc_now", lambda: "9999-01-01")
    assert door.client.get("/v1/model", headers=bearer(secret)).status_code == 401


def test_refusals_are_recorded_without_the_secret(door: Door) -> None:
    door.client.get("/v1/model", headers=bearer("ml_planted_secret"))
    door.ask("reader", "POST", "/v1/models/rollback")
    door.service.feedback.note("start", {}).result(60)
    entries = [str(entry) for entry in door.service.feedback.journal.entries(kind="refusal", limit=1000)]
    assert any("401" in entry and "/v1/model" in entry for entry in entries)
    assert any("403" in entry and door.ids["reader"] in entry for entry in entries)
    assert "planted" not in str(entries)
    assert door.service.feedback.journal.verify() == []


def test_requests_with_one_key_are_limited(predictor: Predictor, tmp_path: Path) -> None:
    with served(predictor, tmp_path, auth=True, rate_limit=5) as client:
        door = Door(client)
        answers = [door.ask("reader", "GET", "/v1/model") for _ in range(8)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
        assert door.ask("admin", "GET", "/v1/model").status_code == 200


def test_a_bucket_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr("medloop.serve.http.access.time.monotonic", lambda: moment[0])
    bucket = Bucket(2.0)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    moment[0] = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    moment[0] = 100.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        *(("127.0.0.1:8000", True), ("[::1]:8000", True), ("localhost", True), ("LOCALHOST:1", True)),
        *(("evil.example", False), ("localhost.evil.example", False), ("127.0.0.1.nip.io", False), ("", False)),
        *(("localhost:x", False), ("[", False), ("a@localhost", True), ("localhost@evil.example", False)),
    ],
)
def test_only_addresses_and_known_names_are_hosts(host: str, known: bool) -> None:
    assert is_known(host, {"localhost"}) is known


ORIGINS = {
    "another site": ("https://evil.example", 403),
    "a site with our name in its own": ("http://testserver.evil.example", 403),
    "a sandboxed page": ("null", 403),
    "nonsense": ("http://[", 403),
    "our own page": ("http://testserver", 200),
    "our own page behind TLS": ("https://testserver", 200),
}


@pytest.mark.parametrize(("origin", "status"), ORIGINS.values(), ids=ORIGINS)
def test_a_page_of_another_site_cannot_use_the_browsers_password(door: Door, origin: str, status: int) -> None:
    answer = door.client.post(
        "/predict", json=FEATURES, auth=("me", door.secrets["reader"]), headers={"Origin": origin}
    )
    assert answer.status_code == status


def test_other_origins_may_not_read(door: Door) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = door.client.options("/predict", headers=headers)
    read = door.client.get("/healthz", headers=headers)
    for answer in (preflight, read):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_configured_origin_may_read(predictor: Predictor, tmp_path: Path) -> None:
    with served(predictor, tmp_path, origins=("https://ward.example",)) as client:
        headers = {"Origin": "https://ward.example"}
        answer = client.post("/predict", json=FEATURES, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://ward.example"
        assert client.post("/predict", json=FEATURES, headers={"Origin": "https://x.example"}).status_code == 403


def test_every_answer_has_the_headers_that_browsers_heed(door: Door) -> None:
    for path in ("/healthz", "/", "/nowhere"):
        headers = door.client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        # With no-referrer, browsers send `Origin: null` with the page's own form, which is refused.
        assert headers["referrer-policy"] == "same-origin"
        assert len(headers["x-trace-id"]) == 32


def test_the_trace_id_of_the_caller_is_used(door: Door) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert door.client.get("/healthz", headers=headers).headers["x-trace-id"] == trace
    assert door.client.get("/v1/model", headers=headers).json()["trace_id"] == trace
