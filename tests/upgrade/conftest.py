"""Projects that an earlier commit wrote, unpacked for each test to change."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.loop_project import made_once
from tests.steps.conftest import away  # noqa: F401 - a fixture

ARCHIVE = Path(__file__).with_name("projects_9707160.tar.xz")


@pytest.fixture
def old(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both projects, as the earlier commit left them."""

    def unpack(folder: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")

    return shutil.copytree(made_once(tmp_path_factory, "old_projects", unpack), tmp_path / "old", symlinks=True)
