"""Bundles that several tests of images read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.image_bundles import export_project, export_rows, write_project


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned network with its bundle, to read and not to change."""
    folder = write_project(tmp_path_factory.mktemp("discs"), mode="finetune")
    export_project(folder, threshold="sensitivity >= 0.95")
    return folder


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head on a frozen network with its bundle, which decides by patient; four folds and no calib part."""
    parts = {"train": 160, "test": 80}
    folder = write_project(tmp_path_factory.mktemp("heads"), mode="head", parts=parts, folds=True)
    export_project(folder, threshold="youden", per="patient", combine="mean", precision="int8")
    return folder


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table's bundle with two columns of numbers."""
    return export_rows(tmp_path_factory.mktemp("rows"))
