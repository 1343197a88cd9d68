"""The pictures that the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.images.pictures import write_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With validation cases; to read and not to change."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "with_val")


@pytest.fixture(scope="session")
def pictures_without_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All but the test cases are in folds."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "without_val", val=0.0)
