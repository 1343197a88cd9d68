"""The image files that are measured on, and projects upon them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import yaml

from medloop.data.sources.folder import image_names
from medloop.phantoms import PhantomSpec, generate, write
from medloop.steps.project import Project, load_project

# With a small share of the files everything runs, but the figures say little.
SHARE = float(os.environ.get("BENCH_SHARE", "1"))
# As many as Medical MNIST has.
SMALL_FILES = round(58_954 * SHARE)
SMALL_SIZE = 64
SCAN_PATIENTS = max(8, round(240 * SHARE))


def scans(folder: Path) -> Path:
    """Slices of the size of a scanner: those that BENCH_IMAGES names, else phantoms."""
    if given := os.environ.get("BENCH_IMAGES"):
        return Path(given).resolve()
    return write(PhantomSpec(patients=SCAN_PATIENTS, size=400, slices=(2, 4)), folder)


def small_jpegs(folder: Path, count: int) -> Path:
    """Grey JPEGs of 64 x 64 in six classes, all different."""
    rng = np.random.default_rng(0)
    pictures = [
        one.pixels.astype(np.int16)
        for one in generate(PhantomSpec(kind="six_kinds", patients=max(6, round(60 * SHARE)), size=SMALL_SIZE))
    ]
    for number in range(count):
        path = folder / f"class{number % 6}" / f"{number:06d}.jpeg"
        if number < 6:
            path.parent.mkdir(parents=True)
        picture = pictures[number % len(pictures)] + rng.integers(-8, 9, (SMALL_SIZE, SMALL_SIZE))
        path.write_bytes(
            cv2.imencode(".jpeg", picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
        )
    return folder


def files_of(folder: Path) -> list[str]:
    """The images below a folder, as ingest finds them; phantoms have notes beside them."""
    return sorted(str(folder / place / name) for place, names in image_names(folder) for name in names)


def image_project(folder: Path, images: Path, *, size: int = 224, channels: int = 1) -> Project:
    """A project whose source is a folder of classes."""
    folder.mkdir()
    data = {"source": "folder", "path": str(images), "class_pattern": "[^_]+"}
    recipe = {"data": data, "prepare": {"size": size, "channels": channels}}
    (folder / "params.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "work").mkdir()
    return load_project(folder)
