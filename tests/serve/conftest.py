"""The service over the golden bundle."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle.predictor import Predictor
from medloop.serve.app import create_app
from tests.golden.make_table_bundle import ANSWERS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2, which nothing else here needs
    from starlette.testclient import TestClient


@pytest.fixture(scope="session")
def predictor(golden: Path) -> Predictor:
    return Predictor.load(golden)


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(create_app(predictor), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def empty() -> Iterator[TestClient]:
    """The service without a model."""
    with TestClient(create_app(None), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def known() -> list[dict[str, Any]]:
    """The recorded answers of the golden bundle."""
    answers: list[dict[str, Any]] = json.loads(ANSWERS.read_text("utf-8"))
    return answers
