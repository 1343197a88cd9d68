"""Folders of small pictures for the tests of sources and of preparing, and a project upon them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml

from medloop.data import read_source
from medloop.recipe import DataSection
from medloop.settings import load_settings
from medloop.steps.project import Project, load_project
from medloop.steps.stages.ingest import places_of

CLASSES = ("normal", "tumour")
KEY = b"the key of the tests"


def picture(number: int, *, size: int = 24) -> np.ndarray:
    """A grey picture, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (size, size), dtype=np.uint8)


def write_picture(path: Path, number: int, *, size: int = 24) -> Path:
    """The picture as a file of the kind that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture(number, size=size))[1].tobytes())
    return path


def write_classes(root: Path, *, each: int = 4, classes: Sequence[str] = CLASSES, parts: Sequence[str] = ("",)) -> Path:
    """Folders of classes, below folders of parts where these are named; no two pictures alike."""
    number = 0
    for part in parts:
        for name in classes:
            for _ in range(each):
                write_picture(root / part / name / f"p{number % 3}_{number:03d}.png", number)
                number += 1
    return root


def read_images(project: Path, *, hosts: Sequence[str] = (), **data: Any) -> pd.DataFrame:
    """The manifest of a source, all places read as the stage would."""
    project.mkdir(exist_ok=True)
    settings = load_settings(project)
    settings = settings.model_copy(
        update={"storage": settings.storage.model_copy(update={"allow_hosts": tuple(hosts)})}
    )
    section = DataSection(**data)
    places = places_of(project, settings, raw=project / "work" / "raw", key=KEY, sha256=section.sha256)
    return read_source(section, places)


def image_project(folder: Path, **recipe: Mapping[str, Any]) -> Project:
    """A project of this recipe."""
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "work").mkdir(exist_ok=True)
    return load_project(folder)
