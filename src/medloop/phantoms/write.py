"""Write phantoms as a folder of classes, with tables of the true labels and of where the tumours are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.errors import UserError
from medloop.phantoms.generate import generate_patient
from medloop.phantoms.spec import SUFFIX, Format, Identity, Nodule, PhantomSpec, Slice

CASES: Final = "cases.csv"
NODULES: Final = "nodules.csv"


@dataclass(frozen=True, kw_only=True)
class Written:
    """One file of the folder, as listed in the tables."""

    path: str
    label: str
    patient_id: str
    index: int
    split: str = ""
    nodule: Nodule | None = None


def write(spec: PhantomSpec, folder: Path) -> Path:
    """Fill an empty folder with [split/]class/patient_slice files, cases.csv and nodules.csv."""
    write_tables(write_slices(spec, folder), folder)
    return folder


def write_slices(spec: PhantomSpec, folder: Path) -> list[Written]:
    """Write the pictures into an empty folder, and return the rows of its tables."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError("Phantoms need an empty folder, and this one has files.", "Name a new folder, or empty it.")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_slice(item, spec, folder, split=_split_of(spec, patient))
        for patient in range(spec.patients)
        for item in generate_patient(spec, patient)
    ]


def _split_of(spec: PhantomSpec, patient: int) -> str:
    """Return train or test; whole blocks with every class once go to the test folder."""
    if not spec.test_share:
        return ""
    block = patient // len(spec.classes)
    return "test" if int((block + 1) * spec.test_share) > int(block * spec.test_share) else "train"


def path_of(row: Written, *, suffix: str, name_label: bool = False) -> str:
    """Return the path of a case: [split/]class/patient_slice.suffix."""
    name = f"{row.patient_id}_{row.index}" + (f"_{row.label}" if name_label else "")
    return "/".join(part for part in (row.split, row.label, name + suffix) if part)


def write_slice(item: Slice, spec: PhantomSpec, root: Path, *, split: str) -> Written:
    """Write one picture to its place."""
    row = Written(
        path="", label=item.label, patient_id=item.patient_id, index=item.index, split=split, nodule=item.nodule
    )
    row = replace(row, path=path_of(row, suffix=SUFFIX[spec.format]))
    target = root / row.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if spec.format == "dicom":
        from medloop.phantoms.dicom import encode_dicom

        identity = Identity(patient_id=item.patient_id, index=item.index)
        target.write_bytes(encode_dicom(item.drawing, identity, monochrome1=spec.monochrome1))
    else:
        target.write_bytes(encode_picture(item.pixels, spec.format))
    return row


def encode_picture(pixels: NDArray[np.uint8], form: Format, *, level: int | None = None) -> bytes:
    """Return PNG or JPEG bytes; the level is the compression of PNG or the quality of JPEG."""
    if form == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, 95 if level is None else level]
    else:
        # Not compressed, so that the size of a file does not reveal its content.
        options = [cv2.IMWRITE_PNG_COMPRESSION, 0 if level is None else level]
    _, data = cv2.imencode(SUFFIX[form], pixels, options)
    return data.tobytes()


def write_tables(rows: Sequence[Written], root: Path) -> None:
    """Write the label of every case, and where the tumours are."""
    split = ("split",) if any(row.split for row in rows) else ()
    with (root / CASES).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "label", "patient_id", *split))
        table.writerows((row.path, row.label, row.patient_id, *(getattr(row, name) for name in split)) for row in rows)
    with (root / NODULES).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "x", "y", "radius"))
        for row in rows:
            if row.nodule is not None:
                spot = row.nodule
                table.writerow((row.path, f"{spot.x:.2f}", f"{spot.y:.2f}", f"{spot.radius:.2f}"))
