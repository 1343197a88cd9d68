"""Commands are run in the process of the test, and no MLflow server answers."""

from __future__ import annotations

import pytest

from tests.registry.conftest import empty_store

__all__ = ["empty_store"]


@pytest.fixture(autouse=True)
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracking server that is not there, and no patience to wait for it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
