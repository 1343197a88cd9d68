"""A folder of images for `medloop audit PATH`, whether or not its subfolders are classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from medloop.data.images import GIVEN, Found, manifest_of_images
from medloop.data.places import Places
from medloop.data.sources.folder import image_names, read_folder, root_of
from medloop.recipe import DataSection

NO_CLASS = "unlabelled"
# Two folders of one patient each may well be two classes.
MIN_PATIENTS = 3


def read_any_folder(section: DataSection, places: Places) -> pd.DataFrame:
    """Read a folder of classes, or of images without classes, which then all have the label NO_CLASS."""
    root = root_of(section, places)
    if not _has_classes(root):
        return manifest_of_images(root, _found_in(root), places, section, source="folder", labelled=False)
    cases = read_folder(section, places)
    return cases.assign(label=NO_CLASS) if _are_patients(cases) else cases


def _has_classes(root: Path) -> bool:
    """Return whether every image lies in a class folder, and there are two or more."""
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
    """Return whether each folder has one patient by the DICOM headers, and each patient one folder."""
    known = cases[cases["quarantined"].isna()]
    if known.empty or known["patient_id"].isna().any():
        return False
    pairs = known[["label", "patient_id"]].drop_duplicates()
    return len(pairs) >= MIN_PATIENTS and pairs["label"].is_unique and pairs["patient_id"].is_unique
