"""Write the phantoms of a spec: pictures, tables and the record of what was planted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from medloop.data.phantom.faults import check_faults, plant_faults
from medloop.data.phantom.files import PLANTED, Written, write_slice, write_tables
from medloop.data.phantom.generate import generate_patient
from medloop.data.phantom.spec import PhantomSpec
from medloop.errors import UserError


def write(spec: PhantomSpec, folder: Path) -> Path:
    """Fill an empty folder with [split/]class/patient_slice files, cases.csv, nodules.csv and planted.json."""
    check_faults(spec)
    if folder.exists() and any(folder.iterdir()):
        raise UserError("phantoms go to an empty folder", found=str(folder), hint="name a new folder or empty this one")
    folder.mkdir(parents=True, exist_ok=True)
    rows, planted = plant_faults(folder, spec, list(_write_slices(spec, folder)))
    write_tables(rows, folder)
    if planted:
        text = json.dumps([asdict(record) for record in planted], indent=1)
        (folder / PLANTED).write_text(text + "\n", encoding="utf-8")
    return folder


def _write_slices(spec: PhantomSpec, folder: Path) -> Iterator[Written]:
    for patient in range(spec.patients):
        split = _split_of(spec, patient)
        for item in generate_patient(spec, patient):
            yield write_slice(item, spec, folder, split=split)


def _split_of(spec: PhantomSpec, patient: int) -> str:
    """Every so many runs of patients, one run with each class once goes to the test folder."""
    if not spec.test_share:
        return ""
    block = patient // len(spec.classes)
    return "test" if int((block + 1) * spec.test_share) > int(block * spec.test_share) else "train"
