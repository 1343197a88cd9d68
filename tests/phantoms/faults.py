"""Plant the faults that the audit must find, and keep a record of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from medloop.phantoms.spec import SUFFIX, Format, Nodule, PhantomSpec, Values, to_grey
from medloop.phantoms.write import Written, encode_picture, write_slices, write_tables
from tests.phantoms.altered import Change, decode_picture
from tests.phantoms.fault_folder import Fault, Folder, Planted

Planter = Callable[[Folder, Fault], Planted]
_STREAM: Final = 6
_GROWTH: Final = 1.25
_SHIFT: Final = 1
_INK: Final = (40, 140, 235)


def write_faulty(spec: PhantomSpec, folder: Path, *faults: Fault) -> Path:
    """Write phantoms with faults, and planted.json, which records each of them."""
    check_faults(spec, faults)
    rows, planted = plant_faults(folder, spec, faults, write_slices(spec, folder))
    write_tables(rows, folder)
    text = json.dumps([asdict(record) for record in planted], indent=1)
    (folder / "planted.json").write_text(text + "\n", encoding="utf-8")
    return folder


def plant_faults(
    root: Path, spec: PhantomSpec, faults: Sequence[Fault], rows: Sequence[Written]
) -> tuple[list[Written], list[Planted]]:
    """Plant the faults, those that move files first and those that break them last."""
    folder = Folder(root, spec=spec, rows=rows, rng=np.random.default_rng([spec.seed, spec.patients, _STREAM]))
    order = list(FAULTS)
    planted = [FAULTS[fault.name](folder, fault) for fault in sorted(faults, key=lambda one: order.index(one.name))]
    # A later fault may have moved the files of an earlier one.
    return folder.rows, [
        replace(it, paths=tuple(map(folder.now, it.paths)), sources=tuple(map(folder.now, it.sources)))
        for it in planted
    ]


def check_faults(spec: PhantomSpec, faults: Sequence[Fault]) -> None:
    """Refuse faults that do not exist or that these phantoms cannot have."""
    for fault in faults:
        if fault.name not in FAULTS:
            raise ValueError(f"no fault is called {fault.name}")
        if fault.label is not None and fault.label not in spec.classes:
            raise ValueError(f"{spec.kind} has no class {fault.label}")
        if fault.name.endswith("_across_splits") and not spec.test_share:
            raise ValueError(f"{fault.name} needs a test_share")
        if fault.name in ("two_labels", "flipped_labels") and len(spec.classes) < 2:
            raise ValueError(f"{fault.name} needs two classes")


def _plant_flipped_labels(folder: Folder, fault: Fault) -> Planted:
    mine = _by_patient(folder.free(fault))
    paths: list[str] = []
    truth: list[str] = []
    # Whole patients change class: one slice alone would show as a patient with two labels.
    for patient in folder.rng.permutation(sorted(mine)).tolist():
        if len(paths) >= folder.count(fault):
            break
        wrong = _other_label(folder, mine[patient][0].label)
        truth += [row.label for row in mine[patient]]
        paths += [folder.move(row, label=wrong).path for row in mine[patient]]
    folder.touched.update(paths)
    return Planted(fault=fault.name, paths=tuple(paths), label=fault.label, true_labels=tuple(truth))


def _by_patient(rows: Sequence[Written]) -> dict[str, list[Written]]:
    mine: dict[str, list[Written]] = {}
    for row in rows:
        mine.setdefault(row.patient_id, []).append(row)
    return mine


def _other_label(folder: Folder, label: str) -> str:
    return str(folder.rng.choice([name for name in folder.spec.classes if name != label]))


def _plant_patient_across_splits(folder: Folder, fault: Fault) -> Planted:
    mine = _by_patient(folder.free(fault, split="train"))
    several = sorted(patient for patient, rows in mine.items() if len(rows) > 1)
    if not several:
        raise ValueError(f"{fault.name} needs a patient in train with two slices")
    chosen = folder.rng.permutation(several)[: folder.count(fault)].tolist()
    moved = [folder.move(mine[patient][-1], split="test").path for patient in chosen]
    stayed = [mine[patient][0].path for patient in chosen]
    folder.touched.update(moved, stayed)
    return Planted(fault=fault.name, paths=tuple(moved), sources=tuple(stayed), label=fault.label)


def _plant_label_in_name(folder: Folder, fault: Fault) -> Planted:
    folder.name_label = True
    moved = [folder.move(row).path for row in list(folder.rows)]
    return Planted(fault=fault.name, paths=tuple(moved))


def _change_class(folder: Folder, fault: Fault, change: Change) -> Planted:
    label = folder.class_of(fault)
    rows = [row for row in folder.rows if row.label == label]
    for row in rows:
        folder.change(row, change)
    return Planted(fault=fault.name, paths=tuple(row.path for row in rows), label=label)


def _plant_size_by_class(folder: Folder, fault: Fault) -> Planted:
    side = round(folder.spec.size * _GROWTH)
    planted = _change_class(folder, fault, lambda unit: _as_values(cv2.resize(unit, (side, side))))
    growth = side / folder.spec.size
    for row in [row for row in folder.rows if row.label == planted.label and row.nodule is not None]:
        folder.note(row, replace(row, nodule=_grown(row.nodule, growth)))
    return planted


def _grown(spot: Nodule | None, growth: float) -> Nodule | None:
    if spot is None:
        return None
    return Nodule(x=(spot.x + 0.5) * growth - 0.5, y=(spot.y + 0.5) * growth - 0.5, radius=spot.radius * growth)


def _plant_window_by_class(folder: Folder, fault: Fault) -> Planted:
    return _change_class(folder, fault, lambda unit: unit * np.float32(1.2) + np.float32(0.06))


def _plant_marker(folder: Folder, fault: Fault) -> Planted:
    return _change_class(folder, fault, _mark_corner)


def _mark_corner(unit: Values) -> Values:
    marked = unit.copy()
    edge = max(3, unit.shape[0] // 14)
    marked[2 : 2 + edge, 2 : 2 + edge] = 1.0
    return marked


def _plant_watermark(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault)
    for row in rows:
        if folder.form == "dicom":
            folder.change(row, lambda unit: unit + (1 - unit) * np.float32(0.6) * _lettering(unit.shape[0]))
        else:
            folder.write(row, _watermarked(folder.read(row), folder.form))
    return Planted(fault=fault.name, paths=tuple(row.path for row in rows), label=fault.label)


def _lettering(side: int) -> Values:
    grid = np.zeros((side, side), np.uint8)
    cv2.putText(grid, "COPY", (side // 8, side // 2), cv2.FONT_HERSHEY_SIMPLEX, side / 110, 255, 1, cv2.LINE_AA)
    return _as_values(grid) / np.float32(255)


def _watermarked(data: bytes, form: Format) -> bytes:
    grey = decode_picture(data)
    cover = np.float32(0.7) * _lettering(grey.shape[0])[..., None]
    colour = grey[..., None] * (1 - cover) + np.array(_INK, np.float32) * cover
    return encode_picture(np.rint(colour).astype(np.uint8), form)


def _plant_exact_duplicate(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault)
    return _record(fault, rows, [_copy(folder, row, folder.twin(row)) for row in rows])


def _plant_duplicate_across_splits(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault, split="train")
    return _record(fault, rows, [_copy(folder, row, folder.twin(row, split="test")) for row in rows])


def _plant_two_labels(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault)
    twins = [folder.twin(row, label=_other_label(folder, row.label)) for row in rows]
    return _record(fault, rows, [_copy(folder, row, twin) for row, twin in zip(rows, twins, strict=True)])


def _copy(folder: Folder, row: Written, twin: Written) -> Written:
    data = folder.read(row)
    if folder.form == "dicom":
        # The copy must pass for another patient in its tags too.
        folder.change(row, lambda unit: unit, onto=twin)
    elif folder.form == "png" and folder.rng.random() < 0.5:
        # The same picture in other bytes: only decoded pixels show it.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        folder.write(twin, encode_picture(np.asarray(pixels, np.uint8), "png", level=9))
    else:
        folder.write(twin, data)
    return twin


def _record(fault: Fault, rows: Sequence[Written], copies: Sequence[Written]) -> Planted:
    sources = tuple(row.path for row in rows)
    return Planted(fault=fault.name, paths=tuple(row.path for row in copies), sources=sources, label=fault.label)


def _plant_near_duplicate_jpeg(folder: Folder, fault: Fault) -> Planted:
    rows, copies = folder.pick(fault), []
    for row in rows:
        if folder.form == "dicom":
            twin = folder.twin(row)
            folder.change(row, _through_jpeg, onto=twin)
        else:
            twin = folder.twin(row, suffix=SUFFIX["jpeg"])
            folder.write(twin, encode_picture(decode_picture(folder.read(row)), "jpeg", level=50))
        copies.append(twin)
    return _record(fault, rows, copies)


def _through_jpeg(unit: Values) -> Values:
    data = encode_picture(to_grey(unit), "jpeg", level=50)
    return _as_values(decode_picture(data)) / np.float32(255)


def _plant_near_duplicate_shift(folder: Folder, fault: Fault) -> Planted:
    rows, copies = folder.pick(fault), []
    for row in rows:
        twin = folder.twin(row)
        folder.change(row, lambda unit: np.pad(unit, ((0, 0), (_SHIFT, 0)), mode="edge")[:, :-_SHIFT], onto=twin)
        if twin.nodule is not None:
            folder.note(twin, replace(twin, nodule=replace(twin.nodule, x=twin.nodule.x + _SHIFT)))
        copies.append(twin)
    return _record(fault, rows, copies)


def _plant_near_duplicate_contrast(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault)
    twins = [folder.twin(row) for row in rows]
    for row, twin in zip(rows, twins, strict=True):
        folder.change(row, lambda unit: unit * np.float32(0.8) + np.float32(0.08), onto=twin)
    return _record(fault, rows, twins)


def _plant_wrong_extension(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault)
    for row in rows:
        form: Format = "png" if folder.form == "jpeg" else "jpeg"
        folder.write(row, encode_picture(decode_picture(folder.read(row)), form))
    return Planted(fault=fault.name, paths=tuple(row.path for row in rows), label=fault.label)


def _plant_corrupt(folder: Folder, fault: Fault) -> Planted:
    rows = folder.pick(fault)
    for place, row in enumerate(rows):
        data = folder.read(row)
        if place % 2:
            folder.write(row, folder.rng.bytes(len(data)))
        else:
            folder.write(row, data[: int(len(data) * folder.rng.uniform(0.1, 0.8))])
    return Planted(fault=fault.name, paths=tuple(row.path for row in rows), label=fault.label)


def _as_values(grid: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Values:
    return np.asarray(grid, np.float32)


# In the order of planting: names, then places, then pictures, then copies, then broken files.
FAULTS: Final[dict[str, Planter]] = {
    "label_in_name": _plant_label_in_name,
    "flipped_labels": _plant_flipped_labels,
    "patient_across_splits": _plant_patient_across_splits,
    "size_by_class": _plant_size_by_class,
    "window_by_class": _plant_window_by_class,
    "marker": _plant_marker,
    "watermark": _plant_watermark,
    "exact_duplicate": _plant_exact_duplicate,
    "duplicate_across_splits": _plant_duplicate_across_splits,
    "two_labels": _plant_two_labels,
    "near_duplicate_jpeg": _plant_near_duplicate_jpeg,
    "near_duplicate_shift": _plant_near_duplicate_shift,
    "near_duplicate_contrast": _plant_near_duplicate_contrast,
    "wrong_extension": _plant_wrong_extension,
    "corrupt": _plant_corrupt,
}
