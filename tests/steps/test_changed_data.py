"""Which changes of a folder of images make ingest run again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from medloop.steps.pipeline import last_message, run_stage
from medloop.steps.project import Project, load_project
from tests.bundle.image_bundles import draw_discs, png


@pytest.fixture
def ingested(tmp_path: Path) -> Project:
    """Two classes of two pictures, as they were found."""
    for number, disc in enumerate(draw_discs(4, seed=5)):
        folder = tmp_path / "project" / "scans" / ("odd" if number % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(disc.pixels))
    recipe = {"name": "scans", "data": {"source": "folder", "path": "scans", "positive": ["odd"]}}
    (tmp_path / "project" / "params.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    project = load_project(tmp_path / "project")
    run_stage(project, "ingest")
    return project


def add(folder: Path) -> None:
    (folder / "odd" / "new.png").write_bytes((folder / "odd" / "1.png").read_bytes())


def rename(folder: Path) -> None:
    (folder / "odd" / "1.png").rename(folder / "odd" / "one.png")


def remove(folder: Path) -> None:
    (folder / "even" / "0.png").unlink()


def relabel(folder: Path) -> None:
    (folder / "even" / "0.png").rename(folder / "odd" / "0.png")


def change_a_byte_and_set_the_time_back(folder: Path) -> None:
    file = folder / "even" / "0.png"
    before, data = file.stat(), bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("change", [add, rename, remove, relabel, change_a_byte_and_set_the_time_back])
def test_changed_data_are_ingested_again(ingested: Project, change: Callable[[Path], None]) -> None:
    assert last_message(ingested, "ingest")
    change(ingested.root / "scans")
    assert last_message(ingested, "ingest") is None


def test_a_project_that_was_moved_is_not(ingested: Project, tmp_path: Path) -> None:
    ingested.root.rename(tmp_path / "elsewhere")
    assert last_message(load_project(tmp_path / "elsewhere"), "ingest")
