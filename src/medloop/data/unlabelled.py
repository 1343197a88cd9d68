"""A folder of images to look at, whether or not its folders are classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from medloop.data.folder import image_names, read_folder, root_of
from medloop.data.images import GIVEN, Found, manifest_of_images
from medloop.data.places import Places
from medloop.recipe import DataSection

NO_CLASS = "unlabelled"
# Two folders of one patient each may well be two classes.
LEAST_PATIENTS = 3


def read_any_folder(section: DataSection, places: Places) -> pd.DataFrame:
    """The manifest of a folder of classes, or of images without any, which then all carry the label NO_CLASS."""
    root = root_of(section, places)
    if not _has_classes(root):
        return manifest_of_images(root, _found_in(root), places, section, source="folder", labelled=False)
    cases = read_folder(section, places)
    return cases.assign(label=NO_CLASS) if _are_patients(cases) else cases


def _has_classes(root: Path) -> bool:
    """Whether every image lies in a folder, and these are two or more."""
    names = set()
    for folder, _ in image_names(root):
        parts = folder.split("/")[:-1]
        classes = parts[1:] if parts and parts[0].lower() in GIVEN else parts
        if not classes:
            return False
        names.add(classes[0])
    return len(names) > 1


def _found_in(root: Path) -> Iterator[Found]:
    for folder, names in image_names(root):
        found = Found()
        for name in names:
            found.add(folder + name, NO_CLASS)
        yield found


def _are_patients(cases: pd.DataFrame) -> bool:
    """Whether each folder holds one patient by the DICOM headers, and each patient lies in one folder."""
    known = cases[cases["quarantined"].isna()]
    if known.empty or known["patient_id"].isna().any():
        return False
    pairs = known[["label", "patient_id"]].drop_duplicates()
    return len(pairs) >= LEAST_PATIENTS and pairs["label"].is_unique and pairs["patient_id"].is_unique
