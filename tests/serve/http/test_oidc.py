"""Tokens of an identity provider that runs beside the test."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from medloop.bundle.predictor import Predictor
from medloop.serve.http.access import TOKEN_THREADS
from medloop.serve.http.oidc import highest_role
from medloop.settings import OidcSettings
from tests.serve.conftest import TestClient, served

AUDIENCE = "medloop"
FEATURES = {"features": [50, 10.0, 1.0, 0, "left", "I"]}


class Provider:
    """Signs tokens and shows its public key; `asked` counts who wanted to see it."""

    def __init__(self) -> None:
        self.key, self.asked = rsa.generate_private_key(65537, 2048), 0
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        keys = {"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                is_keys = self.path == "/keys"
                body = json.dumps(keys if is_keys else {"jwks_uri": f"{provider.address}/keys"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def token(self, *, key: Any = None, algorithm: str = "RS256", **changes: Any) -> str:
        claims = {
            "iss": self.address,
            "aud": AUDIENCE,
            "sub": "u1",
            "exp": int(time.time()) + 60,
            "roles": ["staff", "operator"],
            "preferred_username": "jo",
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers={"kid": "1"})


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever)
    thread.start()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def guarded(provider: Provider, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = OidcSettings(issuer=provider.address, audience=AUDIENCE)
    with served(predictor, tmp_path_factory.mktemp("oidc"), auth=True, oidc=settings, wrong_key_limit=1e6) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def status(client: TestClient, token: str, path: str = "/v1/model") -> int:
    return client.get(path, headers=bearer(token)).status_code


def test_a_token_has_the_role_of_its_claim(guarded: TestClient, provider: Provider) -> None:
    assert status(guarded, provider.token()) == 200
    rollback = {"headers": {"Authorization": f"Bearer {provider.token()}"}}
    assert guarded.post("/v1/models/rollback", **rollback).status_code == 404
    reader = {"headers": {"Authorization": f"Bearer {provider.token(roles='reader')}"}}
    assert guarded.post("/v1/models/rollback", **reader).status_code == 403


def test_a_person_is_known_by_the_subject_alone(guarded: TestClient, provider: Provider) -> None:
    service = guarded.app.state.service  # type: ignore[attr-defined]
    answer = guarded.post("/predict", json=FEATURES, headers=bearer(provider.token(sub="person-7"))).json()
    body = {"prediction_id": answer["id"], "label": answer["label"], "reason": "a test"}
    # Another person who calls herself the same is another person.
    for subject, name in (("person-7", "jo"), ("person-8", "jo"), ("person-7", "anna")):
        token = provider.token(sub=subject, preferred_username=name)
        assert guarded.post("/v1/corrections", json=body, headers=bearer(token)).json()["who"] == subject
    assert "'jo'" not in str(service.feedback.journal.entries(limit=1000))


def test_an_invalid_subject_is_refused(guarded: TestClient, provider: Provider) -> None:
    for subject in ("", "x" * 200, "two\nlines"):
        assert status(guarded, provider.token(sub=subject)) == 401


def test_an_expired_token_is_refused_even_if_used_before(
    guarded: TestClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = provider.token(sub="short", exp=int(time.time()) + 60)
    assert status(guarded, token) == 200
    monkeypatch.setattr(
        "medloop.serve.http.access.utc_now", lambda: datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
    )
    assert status(guarded, token) == 401


def test_malformed_tokens_cause_no_request_to_the_provider(
    predictor: Predictor, provider: Provider, tmp_path: Path
) -> None:
    settings = OidcSettings(issuer=provider.address, audience=AUDIENCE)
    with served(predictor, tmp_path, auth=True, oidc=settings, wrong_key_limit=5) as client:
        good = provider.token(sub="known")
        assert status(client, good) == 200
        asked = provider.asked
        forged = [jwt.encode({"sub": "x"}, provider.key, "RS256", headers={"kid": f"k{n}"}) for n in range(40)]
        assert {status(client, token) for token in forged} == {401, 429}
        assert provider.asked <= asked + 1
        assert status(client, good) == 200


def test_the_keys_of_the_provider_are_cached(guarded: TestClient, provider: Provider) -> None:
    assert status(guarded, provider.token(sub="first")) == 200
    asked = provider.asked
    assert {status(guarded, provider.token(sub=f"u{number}")) for number in range(5)} == {200}
    assert provider.asked == asked


def test_medloop_keys_work_next_to_tokens(guarded: TestClient) -> None:
    _, secret = guarded.app.state.service.feedback.keys.create("own", "reader")  # type: ignore[attr-defined]
    assert status(guarded, secret) == 200


WRONG: dict[str, dict[str, Any]] = {
    "expired": {"exp": 1},
    "for another service": {"aud": "other"},
    "of another provider": {"iss": "https://evil.example"},
    "of nobody": {"sub": None},
    "for ever": {"exp": None},
    "without a role": {"roles": ["staff"]},
    "with a role of no kind": {"roles": {"admin": True}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_token_is_refused(guarded: TestClient, provider: Provider, changes: dict[str, Any]) -> None:
    assert status(guarded, provider.token(**changes)) == 401


def test_a_token_with_a_foreign_signature_is_refused(guarded: TestClient, provider: Provider) -> None:
    assert status(guarded, provider.token(key=rsa.generate_private_key(65537, 2048))) == 401
    assert status(guarded, provider.token(key="x" * 64, algorithm="HS256")) == 401
    assert status(guarded, jwt.encode({"sub": "u1"}, "", algorithm="none")) == 401
    assert status(guarded, "a.b.c") == 401


def test_an_unreachable_provider_is_not_reported_as_a_wrong_token(
    predictor: Predictor, provider: Provider, tmp_path: Path
) -> None:
    settings = OidcSettings(issuer=provider.address, audience=AUDIENCE, jwks_url="http://127.0.0.1:9/keys")
    with served(predictor, tmp_path, auth=True, oidc=settings) as client:
        assert status(client, provider.token()) == 503


@pytest.mark.parametrize(
    ("claim", "role"),
    [("admin", "admin"), (["reader", "admin"], "admin"), (["x"], None), (None, None), ("administrator", None)],
    ids=["a word", "a list", "another", "none", "like one"],
)
def test_the_highest_role_counts(claim: object, role: str | None) -> None:
    assert highest_role(claim) == role


def test_a_provider_that_hangs_does_not_delay_requests_with_a_key(
    predictor: Predictor, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medloop.serve.http.oidc.REQUEST_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as hanging, ThreadPoolExecutor(60) as pool:
        address = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        settings = OidcSettings(issuer=provider.address, audience=AUDIENCE, jwks_url=address)
        with served(predictor, tmp_path, auth=True, oidc=settings, wrong_key_limit=20) as client:
            _, secret = client.app.state.service.feedback.keys.create("own", "reader")  # type: ignore[attr-defined]
            asked = [pool.submit(status, client, provider.token(sub=f"u{number}")) for number in range(50)]
            assert status(client, secret) == 200
            assert {one.result() for one in asked} <= {429, 503}
            assert status(client, secret) == 200
        # Whoever comes while one asks, or just after it got no answer, does not ask again.
        hanging.setblocking(False)
        assert connections_of(hanging) <= TOKEN_THREADS


def connections_of(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1
