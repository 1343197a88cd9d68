"""Images for the training benchmarks, split into parts, and one training with medloop."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.image_sets import image_project
from medloop.data import manifest
from medloop.data.split import split_cases
from medloop.phantoms import PhantomSpec, write
from medloop.recipe import ModelSection, SplitSection, TrainSection
from medloop.steps.project import Project
from medloop.steps.stages import ingest

SIZE = 224
SCAN_SIZE = 400


def learning_project(folder: Path, count: int, *, size: int = SIZE, channels: int = 3) -> Project:
    """Return a project with `count` images: those in BENCH_IMAGES, else phantoms with one slice per patient."""
    chosen = os.environ.get("BENCH_IMAGES")
    images = Path(chosen).resolve() if chosen else folder / "phantoms"
    if not images.is_dir():
        # Classes that an untrained network can distinguish, since the AUC would be meaningless otherwise.
        write(PhantomSpec(kind="six_kinds", patients=count, size=SCAN_SIZE, slices=(1, 1)), images)
    project = image_project(folder / "project", images, size=size, channels=channels)
    ingest.run(project)
    cases = manifest.usable(project.cases())
    # The same number of every class, where there are enough.
    kept = cases.groupby("label").head(count // cases["label"].nunique())
    manifest.write_cases(kept.reset_index(drop=True), project.work / "cases.parquet")
    splits = split_cases(project.cases(), SplitSection(test=0.3, val=0.15, folds=5, official=False))
    splits.to_parquet(project.work / "splits.parquet", index=False)
    return project


def part_of(project: Project, part: str) -> pd.DataFrame:
    """Return the cases of one part."""
    splits = pd.read_parquet(project.work / "splits.parquet")
    cases: pd.DataFrame = project.cases().set_index("case_id").loc[splits.loc[splits["part"] == part, "case_id"]]
    return cases


def forget(project: Project) -> None:
    """Delete everything that was prepared and computed."""
    for name in ("prepared", "cache", "trained", "bundle"):
        shutil.rmtree(project.work / name, ignore_errors=True)


def learn(project: Project, backbone: str, **values: Any) -> None:
    """Train on the prepared images, using the cache."""
    from medloop.train.images.learn import train_images

    train_images(
        project.work / "prepared",
        project.work / "splits.parquet",
        ModelSection.model_validate({"name": "backbone", "backbone": backbone}),
        TrainSection(**values),
        tuned={},
        folder=project.work / "trained",
        cache=project.work / "cache",
        root=project.root,
    )
