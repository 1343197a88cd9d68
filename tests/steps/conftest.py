"""Projects for the tests of the steps; MLflow has tests of its own, and here nobody answers at its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loop_project import copied


@pytest.fixture(autouse=True)
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracking server that is not there, and no patience to wait for it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


@pytest.fixture
def table(small: Path, tmp_path: Path) -> Path:
    """A copy of the small project, to change."""
    return copied(small, tmp_path / "table")
