"""The report of the finished project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def folder(finished: Path) -> Path:
    return finished / "work" / "report"


@pytest.fixture(scope="session")
def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return content
