"""What the service answers when all is well, and how it says that it cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from medloop.bundle.predictor import Predictor
from tests.serve.conftest import TestClient, served

FIELDS = {
    *("id", "label", "probabilities", "threshold", "conformal_set", "abstained", "reason"),
    *("model", "version", "bundle", "latency_ms"),
}


def test_the_short_form_returns_the_recorded_predictions(client: TestClient, known: list[dict[str, Any]]) -> None:
    for one in known:
        answer = client.post("/predict", json={"features": list(one["record"].values())})
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == FIELDS
        assert body["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
        assert (body["label"], body["reason"], body["abstained"]) == (one["label"], one["reason"], one["label"] is None)


def test_named_records_are_predicted_in_order(client: TestClient, known: list[dict[str, Any]]) -> None:
    answer = client.post("/v1/predictions", json={"records": [one["record"] for one in known]})
    bodies = answer.json()["predictions"]
    assert answer.status_code == 200
    assert len({body["id"] for body in bodies}) == len(known)
    assert [body["label"] for body in bodies] == [one["label"] for one in known]
    assert [body["conformal_set"] for body in bodies] == [one["conformal_set"] for one in known]


def test_the_model_describes_its_inputs(client: TestClient, predictor: Predictor) -> None:
    body = client.get("/v1/model").json()
    assert body["columns"][0] == {"name": "age (years)", "kind": "number"}
    assert (body["name"], body["bundle"], body["positive"]) == ("golden", predictor.hash, ["malignant"])
    assert body["threshold"] == predictor.meta["threshold"]["value"]


def test_it_is_alive_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_without_a_model_it_is_alive_but_not_ready(empty: TestClient) -> None:
    assert empty.get("/healthz").status_code == 200
    for answer in (empty.get("/readyz"), empty.get("/"), empty.get("/v1/model"), empty.post("/predict", json={})):
        assert answer.status_code == 503
        assert "`medloop models promote N`" in answer.json()["hint"]


def test_the_page_reads_without_scripts(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert "age (years)" in answer.text
    assert 'href="docs"' in answer.text


def test_a_name_from_the_data_cannot_become_markup(predictor: Predictor, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    meta = {**predictor.meta, "name": hostile, "classes": [hostile, "malignant"]}
    changed = object.__new__(Predictor)
    changed.__dict__.update({**predictor.__dict__, "meta": meta})
    with served(changed, tmp_path) as client:
        page = client.get("/").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def addresses_in(page: str) -> list[str]:
    return re.findall(r"""(?:src|href|url)\s*[=:]\s*['"]([^'"]+)""", page)


@pytest.mark.parametrize("host", ["testserver", "evil.example"])
def test_the_docs_load_everything_from_the_service_itself(client: TestClient, host: str) -> None:
    page = client.get("/docs", headers={"Host": host})
    assert page.status_code == 200
    addresses = addresses_in(page.text)
    assert len(addresses) == 4
    for address in addresses:
        assert not urlsplit(address).netloc
        assert client.get(urljoin("/docs", address)).status_code == 200
    assert "http" not in page.text


def test_the_docs_work_behind_a_prefix(client: TestClient) -> None:
    client = TestClient(client.app, root_path="/scans")
    assert all(address.startswith("/scans/") for address in addresses_in(client.get("/docs").text))


def test_the_open_api_document_describes_requests_and_errors(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/predict", "/v1/predictions", "/v1/model", "/healthz", "/readyz"} <= set(document["paths"])
    body = document["paths"]["/predict"]["post"]
    assert "features" in str(body["requestBody"])
    assert {"200", "422", "503"} <= set(body["responses"])


def test_responses_are_neither_cached_nor_sniffed(client: TestClient) -> None:
    headers = client.get("/healthz").headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert "server" not in headers
