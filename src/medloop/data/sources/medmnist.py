"""Source: a MedMNIST file (.npz, 2-D, one label per image) with its official splits, written out as PNG."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.npyio import NpzFile

from medloop.data.images import Found, manifest_of_images
from medloop.data.places import Places
from medloop.errors import RejectedInput, UserError
from medloop.recipe import DataSection
from medloop.storage import atomic_folder

PARTS = ("train", "val", "test")
# The name of a part, its images and their labels.
Part = tuple[str, Any, list[str]]


def read_medmnist(section: DataSection, places: Places) -> pd.DataFrame:
    """Read a MedMNIST file."""
    if section.path is None:
        raise UserError("Source medmnist needs data.path.", "Set it to the .npz file in params.yaml.")
    source, root = places(section.path), places.raw.parent / "raw-medmnist"
    with atomic_folder(root) as folder:
        found = Found()
        for part in _parts(source):
            _write_part(part, folder, section, found)
    return manifest_of_images(root, [found], places, section, source="medmnist")


def _parts(source: Path) -> Iterator[Part]:
    try:
        with source.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, NpzFile):
                raise TypeError("a single array")
            for name in PARTS:
                yield _checked(name, arrays[f"{name}_images"], arrays[f"{name}_labels"])
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise RejectedInput(
            f"The MedMNIST file does not have images and labels of train, val and test ({type(error).__name__}).",
            "Download it again; 3-D sets and sets with several labels per image are not supported.",
        ) from error


def _checked(name: str, images: Any, labels: Any) -> Part:
    labels = labels.reshape(len(images), -1)
    is_flat = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if labels.shape[1] != 1 or images.dtype != np.uint8 or not is_flat:
        raise ValueError("not a 2-D set with one label an image")
    return name, images, [str(int(label)) for label in labels[:, 0]]


def _write_part(part: Part, folder: Path, section: DataSection, found: Found) -> None:
    import cv2

    name, images, labels = part
    (folder / name).mkdir()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        key = f"{name}/{number:06d}.png"
        _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image)
        (folder / key).write_bytes(data.tobytes())
        found.add(key, section.rename.get(label, label), given=name)
