"""Bundles that several tests of images read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.image_bundles import export_rows, make_discs, make_heads
from tests.loop_project import made_once


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned network with its bundle, to read and not to change."""
    return made_once(tmp_path_factory, "discs", make_discs)


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head on a frozen network with its bundle, which decides by patient; to read and not to change."""
    return made_once(tmp_path_factory, "heads", make_heads)


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table's bundle with two columns of numbers."""
    return export_rows(tmp_path_factory.mktemp("rows"))
