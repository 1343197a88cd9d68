"""The OpenAPI document is what it was, and every request and answer is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden.make_openapi import DOCUMENT, document


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return document()


def test_the_document_matches_the_stored_one(now: dict[str, Any]) -> None:
    known = json.loads(DOCUMENT.read_text("utf-8"))
    assert now == known, "a change that is meant: `python -m tests.golden.make_openapi`, and say it in the CHANGELOG"


def test_every_operation_describes_its_role_and_errors(now: dict[str, Any]) -> None:
    operations = [one for path in now["paths"].values() for one in path.values()]
    assert len(operations) >= 18
    for operation in operations:
        assert operation["description"]
        if operation["security"]:
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
