"""Phantoms as a folder of classes, with the tables that tell the truth about it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.data.phantom.spec import SUFFIX, Format, Identity, Nodule, PhantomSpec, Pixels, Slice, Values, to_grey

Change = Callable[[Values], Values]
CASES: Final = "cases.csv"
NODULES: Final = "nodules.csv"
PLANTED: Final = "planted.json"


@dataclass(frozen=True, kw_only=True)
class Written:
    """One file of the folder, as the tables list it."""

    path: str
    label: str
    patient_id: str
    index: int
    split: str = ""
    nodule: Nodule | None = None


def path_of(row: Written, *, suffix: str, name_label: bool = False) -> str:
    """Where a case lies: [split/]class/patient_slice.suffix."""
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
        from medloop.data.phantom.dicom import encode_dicom

        identity = Identity(patient_id=item.patient_id, index=item.index)
        target.write_bytes(encode_dicom(item.drawing, identity, monochrome1=spec.monochrome1))
    else:
        target.write_bytes(encode_picture(item.pixels, spec.format))
    return row


def encode_picture(pixels: NDArray[np.uint8], form: Format, *, level: int | None = None) -> bytes:
    """PNG or JPEG bytes; the level is PNG's compression or JPEG's quality."""
    if form == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, 95 if level is None else level]
    else:
        # Stored, not squeezed: the length of a file must not say what it shows.
        options = [cv2.IMWRITE_PNG_COMPRESSION, 0 if level is None else level]
    _, data = cv2.imencode(SUFFIX[form], pixels, options)
    return data.tobytes()


def decode_picture(data: bytes) -> Pixels:
    """Grey levels of PNG, JPEG or DICOM bytes that this package wrote."""
    if data[128:132] == b"DICM":
        from medloop.data.phantom.dicom import decode_dicom

        return decode_dicom(data)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(picture, np.uint8)


def alter(data: bytes, form: Format, change: Change, *, identity: Identity) -> bytes:
    """The same file with its picture changed on a scale from 0 (black) to 1 (white)."""
    if form == "dicom":
        from medloop.data.phantom.dicom import alter_dicom

        return alter_dicom(data, change, identity=identity)
    unit = np.asarray(decode_picture(data), np.float32) / np.float32(255)
    return encode_picture(to_grey(change(unit)), form)


def write_tables(rows: Sequence[Written], root: Path) -> None:
    """Write which case is what, and where the tumours are."""
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
