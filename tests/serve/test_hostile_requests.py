"""Requests that must be refused with 422 and a word on where; none of them is a bug of the service."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from medloop.serve.api import predictions
from tests.serve.conftest import TestClient

ROW = {"age (years)": 50, "Größe, cm": 10.0, "c0": 1.0, "one": 0, "label": "left", "prepare/variable": "I"}
VALUES = list(ROW.values())


def body_with(text: str) -> str:
    """The short form with a text of JSON in place of c0."""
    return json.dumps({"features": VALUES}).replace("1.0", text)


DEEP = {"lists": "[" * 100_000, "closed lists": "[" * 5000 + "]" * 5000, "objects": '{"a":' * 100_000}
NUMBERS = {
    "infinite": "1e400",
    "negative": "-1e400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "400 digits": "9" * 400,
    "5000 digits": "9" * 5000,
    "5000 decimals of a huge number": "9" * 5000 + ".0",
    "beyond float32": "1e39",
}
WRONG: dict[str, tuple[Any, str]] = {
    "one too many": ({"features": [*VALUES, 1]}, "the model needs 6"),
    "one too few": ({"features": VALUES[:-1]}, "the model needs 6"),
    "none": ({"features": []}, "body.features"),
    "null": ({"features": None}, "body.features"),
    "a text": ({"features": ["old", *VALUES[1:]]}, "features: 'age (years)' is text, not a number"),
    "a number as text": ({"features": ["50", *VALUES[1:]]}, "features: 'age (years)' is text, not a number"),
    "a truth value": ({"features": [True, *VALUES[1:]]}, "body.features.0"),
    "a list": ({"features": [[50], *VALUES[1:]]}, "body.features.0"),
    "another key": ({"features": VALUES, "mode": "x"}, "body.mode"),
    "another form": ([1, 2], "body"),
}
RECORDS: dict[str, tuple[Any, str]] = {
    "an unknown column": ({**ROW, "AGE": 1}, "records.1: Unknown column 'AGE'."),
    "an absent column": ({"c0": 1}, "no column 'age (years)'"),
    "a text": ({**ROW, "one": "yes"}, "records.1: 'one' is text, not a number"),
    "an object": ({**ROW, "one": {"a": 1}}, "records.1.one"),
    "a formula": ({**ROW, "label": "=HYPERLINK(1)"}, "records.1: 'label' holds a formula."),
    "a line's end": ({**ROW, "label": "a\nb"}, "records.1: 'label' holds an invisible character."),
    "beyond float32": ({**ROW, "one": 1e39}, "not a finite number"),
    "no columns": ({}, "records.1"),
}
BROKEN = {
    "empty": b"",
    "cut": b'{"features": [1, 2',
    "UTF-16 mark": b"\xff\xfe",
    "latin-1": '{"features": ["ä"]}'.encode("latin-1"),
    "NUL": b"\0\0\0\0",
    "form": b"features=1&features=2",
    "half a pair in a key": b'{"\\ud800": 1}',
    "half a pair twice": b'{"\\ud800": 1, "\\ud800": 2}',
    "half a pair in a value": b'{"features": ["\\ud800", 1, 1, 1, "a", "b"]}',
    "half a pair as column": b'{"records": [{"\\udfff": 1}]}',
}


def refused(answer: Any, status: int = 422) -> dict[str, str]:
    """The error's body, which always has the one form."""
    body: dict[str, str] = answer.json()
    assert answer.status_code == status, body
    assert set(body) == {"error", "message", "hint", "trace_id"}
    assert len(body["trace_id"]) == 32
    assert not any(word in answer.text for word in ("Traceback", "/src/", "site-packages", ".py", "/tmp"))
    return body


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_deep_json_is_refused(client: TestClient, content: str) -> None:
    refused(client.post("/predict", content=content))


@pytest.mark.parametrize("text", NUMBERS.values(), ids=NUMBERS)
def test_a_number_that_is_not_finite_is_refused(client: TestClient, text: str) -> None:
    body = refused(client.post("/predict", content=body_with(text)))
    assert "finite" in body["message"] + body["hint"] or "body.features.2" in body["message"]


@pytest.mark.parametrize(("body", "told"), WRONG.values(), ids=WRONG)
def test_the_short_form_names_what_is_wrong(client: TestClient, body: Any, told: str) -> None:
    assert told in refused(client.post("/predict", json=body))["message"]


@pytest.mark.parametrize(("record", "told"), RECORDS.values(), ids=RECORDS)
def test_the_place_of_a_bad_record_is_named(client: TestClient, record: Any, told: str) -> None:
    assert told in refused(client.post("/v1/predictions", json={"records": [ROW, record, ROW]}))["message"]


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("path", ["/predict", "/v1/predictions"])
def test_a_body_that_is_not_json_is_refused(client: TestClient, path: str, content: bytes) -> None:
    refused(client.post(path, content=content))


@pytest.mark.parametrize(
    "content",
    ['{"features": [1], "features": [2]}', '{"records": [{"c0": 1, "c0": 2}]}', '{"features": {"x": 1, "x": 1}}'],
)
def test_a_duplicate_key_is_refused(client: TestClient, content: str) -> None:
    assert "Duplicate key" in refused(client.post("/v1/predictions", content=content))["message"]


def test_a_body_beyond_the_limit_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MAX_JSON_BYTES", 1000)
    refused(client.post("/predict", content=(b" " * 100 for _ in range(100))), 413)
    assert client.get("/healthz").status_code == 200


def test_too_many_records_are_refused(client: TestClient) -> None:
    assert "body.records" in refused(client.post("/v1/predictions", json={"records": [{"c0": 1}] * 10_001}))["message"]


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1/predictions/../../etc/passwd", "/swagger/../app.py", "/swagger/%2e%2e/main.py"]
)
def test_an_unknown_place_has_the_same_form_of_error(client: TestClient, path: str) -> None:
    refused(client.get(path), 404)


def test_another_method_has_the_same_form_of_error(client: TestClient) -> None:
    refused(client.get("/predict"), 405)


def test_the_message_of_a_bug_is_not_sent(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("/srv/patients/Jane Doe.csv")

    monkeypatch.setattr("medloop.bundle.predictor.Predictor.predict", fail)
    answer = client.post("/predict", json={"features": VALUES})
    assert refused(answer, 500)["error"] == "Bug"
    assert "Jane" not in answer.text


def test_a_bug_in_any_route_is_logged_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("/srv/patients/Jane Doe.csv")

    monkeypatch.setattr("medloop.serve.service.Service.metrics_text", fail)
    with caplog.at_level(logging.DEBUG):
        body = refused(client.get("/metrics"), 500)
    assert body["error"] == "Bug"
    assert [getattr(one, "trace", "") for one in caplog.records if one.msg == "bug"] == [body["trace_id"]]
    assert "Jane" not in caplog.text


def test_the_log_holds_the_trace_but_no_values(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="medloop"):
        body = refused(client.post("/v1/predictions", json={"records": [{**ROW, "one": "Jane Doe"}]}))
    assert body["trace_id"] in [getattr(record, "trace", "") for record in caplog.records]
    assert "Jane" not in caplog.text
