"""The report of the finished project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate import described
from tests.evaluate.described import ReportedProject, reported


@pytest.fixture(scope="session")
def folder(finished: Path) -> Path:
    return finished / "work" / "report"


@pytest.fixture(scope="session")
def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    return content


@pytest.fixture(scope="session")
def tuned_table(tmp_path_factory: pytest.TempPathFactory) -> ReportedProject:
    return reported(tmp_path_factory, described.make_tuned_table)


@pytest.fixture(scope="session")
def classes_table(tmp_path_factory: pytest.TempPathFactory) -> ReportedProject:
    return reported(tmp_path_factory, described.make_classes_table)


@pytest.fixture(scope="session")
def listed_images(tmp_path_factory: pytest.TempPathFactory) -> ReportedProject:
    return reported(tmp_path_factory, described.make_listed_images)


@pytest.fixture(scope="session")
def foldered_images(tmp_path_factory: pytest.TempPathFactory) -> ReportedProject:
    return reported(tmp_path_factory, described.make_foldered_images)


@pytest.fixture(scope="session")
def phantom_heads(finished_pictures: Path) -> ReportedProject:
    return ReportedProject(finished_pictures)
