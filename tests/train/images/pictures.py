"""Small pictures to learn from: a bright disc whose size is the class, prepared and split by the package itself."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from medloop.prepare.image import ImagePreparer
from medloop.prepare.prepared_images import ImageFiles, write_prepared_images
from medloop.recipe import ModelSection
from medloop.storage import sha256_bytes
from medloop.train.images.examples import ImageLearning, read_image_learning

TINY = ModelSection.model_validate({"name": "backbone", "backbone": "test_resnet"})
CLASSES = ("small", "middle", "large")


def write_pictures(folder: Path, *, count: int = 90, size: int = 32, val: float = 0.2, classes: int = 3) -> Path:
    """A folder with `prepared`, `splits.parquet` and the pictures; two pictures a patient, three folds."""
    (folder / "raw").mkdir(parents=True)
    rng = np.random.default_rng(0)
    cases, paths, hashes, labels = [], [], [], []
    for number in range(count):
        label = (number // 2) % classes
        content = _picture(label, size, rng)
        path = folder / "raw" / f"{number:03d}.png"
        path.write_bytes(content)
        cases.append(f"c{number:03d}")
        paths.append(str(path))
        hashes.append(sha256_bytes(content))
        labels.append(CLASSES[label])
    task = {"task": "images", "classes": list(CLASSES[:classes]), "positive": []}
    with contextlib.redirect_stderr(io.StringIO()):
        write_prepared_images(
            ImageFiles(cases, paths, hashes), labels, ImagePreparer(size=size, channels=1), task, folder / "prepared"
        )
    _write_splits(folder, cases, val=val, classes=classes)
    return folder


def read_pictures(folder: Path) -> ImageLearning:
    return read_image_learning(folder / "prepared", folder / "splits.parquet")


def _picture(label: int, size: int, rng: np.random.Generator) -> bytes:
    pixels = rng.integers(20, 60, (size, size)).astype(np.uint8)
    x, y = rng.integers(size * 3 // 8, size * 5 // 8, 2)
    cv2.circle(pixels, (int(x), int(y)), 2 + 3 * label, 200, -1)
    return bytes(cv2.imencode(".png", pixels)[1])


def _write_splits(folder: Path, case_ids: list[str], *, val: float, classes: int) -> None:
    """Every so many rounds of patients one is tested, one validates, and the others take turns as folds."""
    rows = []
    for number, name in enumerate(case_ids):
        patient, turn = number // 2, (number // 2) // classes
        part = "test" if turn % 5 == 4 else "val" if val and turn % 5 == 3 else "train"
        fold = turn % 3 if part == "train" else -1
        rows.append({"case_id": name, "part": part, "fold": fold, "group": f"p{patient:03d}", "why": ""})
    pd.DataFrame(rows).to_parquet(folder / "splits.parquet", index=False)
