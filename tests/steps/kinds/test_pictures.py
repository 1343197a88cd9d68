"""Each image is decoded once: audit and prepare use what ingest kept, with the same results as by decoding again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from medloop.decode.pool import Sandbox
from medloop.steps.kinds.pictures import CACHE
from medloop.steps.project import Project
from medloop.steps.stages import audit, ingest, prepare
from tests.image_files import image_project, write_classes


def make(folder: Path, **section: Any) -> Project:
    folder.mkdir()
    write_classes(folder / "scans", each=12)
    data = {"source": "folder", "path": "scans", "positive": ["tumour"]}
    return image_project(folder, data=data, split={"folds": 2}, prepare={"size": 16, **section})


def results(project: Project) -> tuple[bytes, ...]:
    audit.run(project)
    prepare.run(project)
    work = project.work
    return (work / "audit/findings.json").read_bytes(), (work / "prepared/images.npy").read_bytes()


@pytest.mark.parametrize("section", [{}, {"window": "from file"}], ids=["same window", "another window"])
def test_results_are_the_same_with_and_without_the_cache(tmp_path: Path, section: dict[str, Any]) -> None:
    kept, decoded = make(tmp_path / "kept", **section), make(tmp_path / "decoded", **section)
    for project in (kept, decoded):
        ingest.run(project)
    shutil.rmtree(decoded.work / CACHE)
    assert results(kept) == results(decoded)


def test_prepare_decodes_nothing_that_ingest_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path / "p")
    ingest.run(project)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Sandbox, "decode", refuse)
    assert prepare.run(project).startswith("24 images,")


def test_another_size_is_prepared_without_ingesting_again(tmp_path: Path) -> None:
    project = make(tmp_path / "p")
    ingest.run(project)
    larger = Project(
        root=project.root, recipe=project.recipe.with_values("prepare", size=32), settings=project.settings
    )
    assert "32 x 32" in prepare.run(larger)


def test_prepared_pictures_leave_the_cache_once_they_are_stored(tmp_path: Path) -> None:
    project = make(tmp_path / "p")
    ingest.run(project)
    prepare.run(project)
    assert [folder.name.split("-")[0] for folder in (project.work / CACHE).iterdir()] == ["looks"]
