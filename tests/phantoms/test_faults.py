"""Each fault is planted as its record says, and nothing else changes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from medloop.phantoms import PhantomSpec, write
from medloop.phantoms.spec import Format
from tests.phantoms.altered import decode_picture
from tests.phantoms.fault_folder import Fault
from tests.phantoms.faults import FAULTS, write_faulty

SETTINGS: dict[str, Any] = {"patients": 16, "size": 48, "test_share": 0.25, "slices": (1, 3)}
# JPEG goes ways of its own in these alone.
IN_JPEG = ("exact_duplicate", "near_duplicate_jpeg", "marker", "watermark", "wrong_extension")


@dataclass(frozen=True, kw_only=True)
class Planting:
    """A folder without the fault, the same with it, and the record."""

    form: Format
    sound: Path
    faulty: Path
    record: dict[str, Any]

    def rows(self, root: Path) -> dict[str, dict[str, str]]:
        with (root / "cases.csv").open(encoding="utf-8", newline="") as file:
            return {row["path"]: row for row in csv.DictReader(file)}

    def picture(self, path: str) -> NDArray[np.uint8]:
        return decode_picture((self.faulty / path).read_bytes())

    def pairs(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        pairs = zip(self.record["sources"], self.record["paths"], strict=True)
        return [(self.picture(a).astype(float), self.picture(b).astype(float)) for a, b in pairs]

    def labels(self, paths: list[str]) -> list[str]:
        rows = self.rows(self.faulty)
        return [rows[path]["label"] for path in paths]

    def patients(self, paths: list[str]) -> list[str]:
        rows = self.rows(self.faulty)
        return [rows[path]["patient_id"] for path in paths]

    def splits(self, paths: list[str]) -> set[str]:
        return {path.split("/")[0] for path in paths}


Plant = Callable[[Fault, Format], Planting]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Path]:
    root = tmp_path_factory.mktemp("sound")
    forms: tuple[Format, ...] = ("png", "jpeg", "dicom")
    return {form: write(PhantomSpec(**SETTINGS, format=form), root / form) for form in forms}


@pytest.fixture
def plant(sound: dict[Format, Path], tmp_path: Path) -> Plant:
    def plant(fault: Fault, form: Format) -> Planting:
        faulty = write_faulty(PhantomSpec(**SETTINGS, format=form), tmp_path / str(uuid4()), fault)
        records = json.loads((faulty / "planted.json").read_text(encoding="utf-8"))
        assert [record["fault"] for record in records] == [fault.name]
        return Planting(form=form, sound=sound[form], faulty=faulty, record=records[0])

    return plant


def changed_files(it: Planting) -> set[str]:
    """The paths whose bytes are not those of the sound folder."""
    found = {path.relative_to(it.faulty).as_posix(): path.read_bytes() for path in it.faulty.rglob("*/*.*")}
    before = {path.relative_to(it.sound).as_posix(): path.read_bytes() for path in it.sound.rglob("*/*.*")}
    return {path for path, data in found.items() if before.get(path) != data}


def check_exact_duplicate(it: Planting) -> None:
    for source, copy in it.pairs():
        assert np.array_equal(source, copy)
    assert it.labels(it.record["paths"]) == it.labels(it.record["sources"])


def check_across_splits(it: Planting) -> None:
    check_exact_duplicate(it)
    assert (it.splits(it.record["sources"]), it.splits(it.record["paths"])) == ({"train"}, {"test"})


def check_two_labels(it: Planting) -> None:
    for source, copy in it.pairs():
        assert np.array_equal(source, copy)
    labels = zip(it.labels(it.record["sources"]), it.labels(it.record["paths"]), strict=True)
    assert all(one != other for one, other in labels)


def check_near(it: Planting) -> None:
    for source, copy in it.pairs():
        assert not np.array_equal(source, copy)
        assert np.corrcoef(source[:, 2:-2].ravel(), copy[:, 2:-2].ravel())[0, 1] > 0.985


def check_near_jpeg(it: Planting) -> None:
    check_near(it)
    if it.form == "png":
        assert all((it.faulty / path).read_bytes()[:2] == b"\xff\xd8" for path in it.record["paths"])
        assert all(path.endswith(".jpeg") for path in it.record["paths"])


def check_near_shift(it: Planting) -> None:
    for source, copy in it.pairs():
        assert np.array_equal(source[:, :-1], copy[:, 1:])
        assert not np.array_equal(source, copy)


def check_near_contrast(it: Planting) -> None:
    check_near(it)
    assert all(copy.std() < 0.9 * source.std() for source, copy in it.pairs())


def check_patient_across_splits(it: Planting) -> None:
    moved, stayed = it.record["paths"], it.record["sources"]
    assert it.patients(moved) == it.patients(stayed)
    assert (it.splits(stayed), it.splits(moved)) == ({"train"}, {"test"})
    assert len(it.rows(it.faulty)) == len(it.rows(it.sound))


def check_label_in_name(it: Planting) -> None:
    rows = it.rows(it.faulty)
    assert set(it.record["paths"]) == set(rows)
    assert all(Path(path).stem == f"{Path(path).stem[:10]}_{row['label']}" for path, row in rows.items())


def check_class_wide(it: Planting, holds: Callable[[NDArray[np.uint8], NDArray[np.uint8]], bool]) -> None:
    rows = it.rows(it.faulty)
    assert set(it.record["paths"]) == {path for path, row in rows.items() if row["label"] == it.record["label"]}
    for path in it.record["paths"]:
        assert holds(decode_picture((it.sound / path).read_bytes()), it.picture(path))


def check_size(it: Planting) -> None:
    check_class_wide(it, lambda _, after: after.shape == (60, 60))


def check_window(it: Planting) -> None:
    check_class_wide(it, lambda before, after: after.mean() > before.mean() + 10)


def check_marker(it: Planting) -> None:
    def holds(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
        unmarked = np.abs(after[20:].astype(int) - before[20:]).max()
        return bool(after[3:5, 3:5].min() > 240 and unmarked < 9)

    check_class_wide(it, holds)


def check_watermark(it: Planting) -> None:
    for path in it.record["paths"]:
        before, after = decode_picture((it.sound / path).read_bytes()), it.picture(path)
        assert 0.01 < (np.abs(after.astype(int) - before) > 12).mean() < 0.25
        if it.form != "dicom":
            colour = cv2.imread(str(it.faulty / path), cv2.IMREAD_UNCHANGED)
            assert colour is not None
            assert colour.ndim == 3


def check_flipped(it: Planting) -> None:
    truth = dict(zip(it.record["paths"], it.record["true_labels"], strict=True))
    rows, before = it.rows(it.faulty), it.rows(it.sound)
    assert all(
        rows[path]["label"] != label and path.split("/")[1] == rows[path]["label"] for path, label in truth.items()
    )
    assert {(Path(path).name, label) for path, label in truth.items()} <= {
        (Path(path).name, row["label"]) for path, row in before.items()
    }
    assert 0.03 < len(truth) / len(rows) < 0.15
    assert set(rows) - set(truth) <= set(before)


def check_wrong_extension(it: Planting) -> None:
    magic = b"\x89PNG" if it.form == "jpeg" else b"\xff\xd8"
    for path in it.record["paths"]:
        assert (it.faulty / path).read_bytes().startswith(magic)
        before = decode_picture((it.sound / path).read_bytes())
        assert np.corrcoef(before.ravel(), it.picture(path).ravel())[0, 1] > 0.99


def check_corrupt(it: Planting) -> None:
    sizes = [((it.sound / path).stat().st_size, (it.faulty / path).stat().st_size) for path in it.record["paths"]]
    assert all(after < before for before, after in sizes[::2])
    for path in it.record["paths"][1::2]:
        data = (it.faulty / path).read_bytes()
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) is None


CHECKS: dict[str, Callable[[Planting], None]] = {
    "exact_duplicate": check_exact_duplicate,
    "duplicate_across_splits": check_across_splits,
    "two_labels": check_two_labels,
    "near_duplicate_jpeg": check_near_jpeg,
    "near_duplicate_shift": check_near_shift,
    "near_duplicate_contrast": check_near_contrast,
    "patient_across_splits": check_patient_across_splits,
    "label_in_name": check_label_in_name,
    "size_by_class": check_size,
    "window_by_class": check_window,
    "marker": check_marker,
    "watermark": check_watermark,
    "flipped_labels": check_flipped,
    "wrong_extension": check_wrong_extension,
    "corrupt": check_corrupt,
}


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in FAULTS for form in ("png", "dicom")] + [(name, "jpeg") for name in IN_JPEG],
)
def test_a_fault_is_planted_as_recorded(name: str, form: Format, plant: Plant) -> None:
    it = plant(Fault(name=name), form)
    CHECKS[name](it)
    rows = it.rows(it.faulty)
    files = {path.relative_to(it.faulty).as_posix() for path in it.faulty.rglob("*/*.*")}
    assert files == set(rows)
    assert changed_files(it) == set(it.record["paths"])


@pytest.mark.parametrize("name", [name for name in FAULTS if "duplicate" in name or name == "two_labels"])
def test_a_copy_passes_for_another_patient_in_its_name_and_tags(name: str, plant: Plant) -> None:
    it = plant(Fault(name=name), "dicom")
    before = {row["patient_id"] for row in it.rows(it.sound).values()}
    assert not before & set(it.patients(it.record["paths"]))
    for path, patient in zip(it.record["paths"], it.patients(it.record["paths"]), strict=True):
        assert dcmread(it.faulty / path).PatientID == patient


def test_exact_duplicates_come_in_equal_and_in_other_bytes(plant: Plant) -> None:
    it = plant(Fault(name="exact_duplicate", share=0.3), "png")
    pairs = zip(it.record["sources"], it.record["paths"], strict=True)
    same = [(it.faulty / a).read_bytes() == (it.faulty / b).read_bytes() for a, b in pairs]
    assert set(same) == {True, False}


def test_the_nodules_follow_their_pictures(plant: Plant) -> None:
    fault = Fault(name="size_by_class", label="large_cell")
    it = plant(fault, "png")
    before, after = ({row["path"]: row for row in read_nodules(root)} for root in (it.sound, it.faulty))
    for path in it.record["paths"]:
        assert float(after[path]["radius"]) == pytest.approx(1.25 * float(before[path]["radius"]), abs=0.02)
        assert float(after[path]["x"]) + 0.5 == pytest.approx(1.25 * (float(before[path]["x"]) + 0.5), abs=0.02)


def read_nodules(root: Path) -> list[dict[str, str]]:
    with (root / "nodules.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_fault_of_one_class_leaves_the_others_alone(plant: Plant) -> None:
    it = plant(Fault(name="marker", label="squamous"), "png")
    assert it.record["label"] == "squamous"
    assert {path.split("/")[1] for path in changed_files(it)} == {"squamous"}


def test_all_faults_together_keep_their_records_true(tmp_path: Path) -> None:
    faults = tuple(Fault(name=name, share=0.02) for name in reversed(FAULTS))
    root = write_faulty(PhantomSpec(patients=48, size=48, test_share=0.25), tmp_path / "all", *faults)
    records = {record["fault"]: record for record in json.loads((root / "planted.json").read_text(encoding="utf-8"))}
    assert set(records) == set(FAULTS)
    every = [path for record in records.values() for path in (*record["paths"], *record["sources"])]
    assert all((root / path).is_file() for path in every)
    record = records["exact_duplicate"]
    for source, copy in zip(record["sources"], record["paths"], strict=True):
        first, second = (decode_picture((root / path).read_bytes()) for path in (source, copy))
        assert np.array_equal(first, second)


def test_the_same_seed_plants_the_same(plant: Plant) -> None:
    fault = Fault(name="flipped_labels", share=0.2)
    first, second = plant(fault, "png"), plant(fault, "png")
    assert first.record == second.record
    assert changed_files(first) == changed_files(second)


@pytest.mark.parametrize(
    ("faults", "spec", "reason"),
    [
        ([Fault(name="markr")], {}, "markr"),
        ([Fault(name="marker", label="norml")], {}, "norml"),
        ([Fault(name="patient_across_splits")], {}, "test_share"),
        ([Fault(name="patient_across_splits")], {"test_share": 0.5, "slices": (1, 1)}, "two slices"),
        ([Fault(name="two_labels")], {"classes": ("normal",)}, "two classes"),
        ([Fault(name="corrupt", share=0.7), Fault(name="watermark", share=0.7)], {}, "without another fault"),
    ],
)
def test_a_fault_that_cannot_be_planted_is_refused(
    faults: list[Fault], spec: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        write_faulty(PhantomSpec(patients=8, size=32, **spec), tmp_path / "phantoms", *faults)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_is_above_0_and_at_most_1(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Fault(name="marker", share=share)
