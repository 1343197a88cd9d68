"""Pictures to learn from, set apart, and one training of medloop upon them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.image_sets import image_project
from medloop.data import manifest
from medloop.data.phantom import PhantomSpec, write
from medloop.data.split import split_cases
from medloop.recipe import ModelSection, SplitSection, TrainSection
from medloop.steps import stages
from medloop.steps.project import Project

SIZE = 224
SCAN_SIZE = 400


def learning_project(folder: Path, count: int, *, size: int = SIZE, channels: int = 3) -> Project:
    """A project with `count` pictures: those that BENCH_IMAGES names, else phantoms, one slice a patient."""
    given = os.environ.get("BENCH_IMAGES")
    images = Path(given).resolve() if given else folder / "phantoms"
    if not images.is_dir():
        # What a network without weights can tell apart, else the AUC would say nothing.
        write(PhantomSpec(kind="six_kinds", patients=count, size=SCAN_SIZE, slices=(1, 1)), images)
    project = image_project(folder / "project", images, size=size, channels=channels)
    stages.ingest(project)
    cases = manifest.usable(project.cases())
    # The same number of every class, as far as they reach.
    kept = cases.groupby("label").head(count // cases["label"].nunique())
    manifest.write_cases(kept.reset_index(drop=True), project.work / "cases.parquet")
    splits = split_cases(project.cases(), SplitSection(test=0.3, val=0.15, folds=5, official=False))
    splits.to_parquet(project.work / "splits.parquet", index=False)
    return project


def part_of(project: Project, part: str) -> pd.DataFrame:
    """The cases of one part."""
    splits = pd.read_parquet(project.work / "splits.parquet")
    chosen: pd.DataFrame = project.cases().set_index("case_id").loc[splits.loc[splits["part"] == part, "case_id"]]
    return chosen


def forget(project: Project) -> None:
    """Nothing is prepared and nothing computed."""
    for name in ("prepared", "cache", "trained", "bundle"):
        shutil.rmtree(project.work / name, ignore_errors=True)


def learn(project: Project, backbone: str, **values: Any) -> None:
    """Train on what is prepared, with what the cache holds."""
    from medloop.train.learn_images import train_images

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
