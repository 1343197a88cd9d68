"""Bundles to serve, from one short training: how well they decide is of no account here."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.learning_sets import learn, learning_project
from benchmarks.model_call import BACKBONE, ORIGIN
from medloop.bundle.export.image import export_images
from medloop.recipe import ExportSection
from medloop.steps.stages import prepare

COUNT = 150


def image_bundle(root: Path, size: int, *, channels: int, precision: str) -> Path:
    """A network for pictures of this size, with a project of its own below the root."""
    place = root / f"{size}x{channels}"
    place.mkdir()
    project = learning_project(place, COUNT, size=size, channels=channels)
    prepare.run(project)
    learn(project, BACKBONE, mode="finetune", epochs=1, patience=0)
    section = ExportSection.model_validate({"precision": precision})
    export_images(
        *(project.work / "trained", project.work / "prepared", project.work / "splits.parquet", section),
        origin=ORIGIN,
        folder=project.work / "bundle",
    )
    return project.work / "bundle"


def picture(root: Path) -> bytes:
    """One that the network may have seen."""
    return next(Path(os.environ.get("BENCH_IMAGES") or root).rglob("*.png")).read_bytes()
