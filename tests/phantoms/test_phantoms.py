"""Phantoms are the same for a seed, differ by their tumour alone and say truly where it is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medloop.errors import UnknownName, UserError
from medloop.phantoms import KINDS, Nodule, PhantomSpec, Slice, generate, generate_patient, label_of, write

SMALL = PhantomSpec(patients=8, size=64)
TUMOURS = ("adenocarcinoma", "large_cell", "squamous")


def pictures(spec: PhantomSpec) -> NDArray[np.uint8]:
    return np.stack([item.pixels for item in generate(spec)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def spot_of(item: Slice) -> Nodule:
    assert item.nodule is not None
    return item.nodule


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_seed_gives_the_same_slices_and_another_gives_others(kind: str) -> None:
    spec = replace(SMALL, kind=kind, classes=())
    first, again, other = pictures(spec), pictures(spec), pictures(replace(spec, seed=1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], other[0])


def test_a_patient_is_the_same_in_whatever_company() -> None:
    together = [item for item in generate(SMALL) if item.patient_id == "S0P00005"]
    alone = list(generate_patient(replace(SMALL, patients=100), 5))
    assert len(together) == len(alone)
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert (one.label, one.index, one.nodule) == (other.label, other.index, other.nodule)


@pytest.mark.parametrize(("kind", "size"), [("chest_ct", 128), ("six_kinds", 64)])
def test_a_kind_has_its_own_classes_and_size(kind: str, size: int) -> None:
    spec = PhantomSpec(kind=kind, patients=6)
    item = next(generate(spec))
    assert item.pixels.shape == (size, size)
    assert item.pixels.dtype == np.uint8
    assert spec.classes == KINDS[kind][0]


@pytest.mark.parametrize("size", [32, 96, 200, 320])
def test_the_size_is_as_asked_and_the_body_stays_in_place(size: int) -> None:
    item, usual = (next(generate_patient(PhantomSpec(size=side), 0)) for side in (size, 128))
    assert item.pixels.shape == (size, size)
    same_size = cv2.resize(item.pixels, (32, 32), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(usual.pixels, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(same_size.ravel(), expected.ravel())[0, 1] > 0.97


def test_classes_are_balanced_in_every_run_of_patients() -> None:
    spec = PhantomSpec(patients=40)
    counts = Counter(label_of(spec, patient) for patient in range(40))
    assert counts == dict.fromkeys(spec.classes, 10)
    orders = {tuple(label_of(spec, 4 * block + place) for place in range(4)) for block in range(10)}
    assert len(orders) > 3


def test_patients_have_one_to_several_slices_of_one_class() -> None:
    counts = Counter((item.patient_id, item.label) for item in generate(PhantomSpec(patients=40, size=32)))
    assert len(counts) == 40
    assert set(counts.values()) == {1, 2, 3, 4}


def test_slices_of_a_patient_resemble_each_other_more_than_other_patients() -> None:
    items = list(generate(PhantomSpec(patients=30, size=64, slices=(2, 2))))
    flat = np.stack([item.pixels.ravel().astype(float) for item in items])
    alike = np.corrcoef(flat)
    same = [alike[2 * k, 2 * k + 1] for k in range(30)]
    others = [alike[2 * k, 2 * j] for k in range(30) for j in range(k)]
    assert min(same) > np.quantile(others, 0.95)


def test_no_two_patients_are_near_duplicates() -> None:
    items = list(generate(PhantomSpec(patients=100, size=64, slices=(1, 1))))
    alike = np.corrcoef(np.stack([item.pixels.ravel().astype(float) for item in items]))
    assert np.triu(alike, 1).max() < 0.97


@pytest.mark.parametrize("label", TUMOURS)
def test_classes_differ_by_the_tumour_alone(label: str) -> None:
    spec = PhantomSpec(patients=12, slices=(1, 3), classes=(label,))
    for sound, ill in zip(generate(replace(spec, classes=("normal",))), generate(spec), strict=True):
        spot = spot_of(ill)
        rows, columns = np.indices(ill.pixels.shape)
        far = np.hypot(columns - spot.x, rows - spot.y) > 3 * spot.radius + 3
        assert np.array_equal(sound.pixels[far], ill.pixels[far])
        assert sound.nodule is None


@pytest.mark.parametrize("label", TUMOURS)
def test_the_nodule_lies_where_the_lung_or_hilum_changed(label: str) -> None:
    spec = PhantomSpec(patients=16, slices=(1, 3), classes=(label,), difficulty=0.2)
    for sound, ill in zip(generate(replace(spec, classes=("normal",))), generate(spec), strict=True):
        spot = spot_of(ill)
        change = np.abs(ill.drawing.values - sound.drawing.values)
        rows, columns = np.nonzero(change > 150)
        assert len(rows) >= 10
        assert np.hypot(columns.mean() - spot.x, rows.mean() - spot.y) < 0.9 * spot.radius
        lung = sound.drawing.values < -500
        near = np.hypot(*(np.indices(lung.shape)[::-1] - np.array([spot.x, spot.y])[:, None, None])) <= spot.radius
        assert lung[near].mean() > (0.15 if label == "squamous" else 0.6)


def test_tumours_have_the_size_and_place_of_their_class() -> None:
    items = [item for item in generate(PhantomSpec(patients=80, slices=(1, 1))) if item.nodule]
    radius = {label: [spot_of(item).radius for item in items if item.label == label] for label in TUMOURS}
    aside = {label: [abs(spot_of(item).x - 63.5) for item in items if item.label == label] for label in TUMOURS}
    assert max(radius["adenocarcinoma"]) < min(radius["large_cell"])
    assert np.mean(aside["squamous"]) < 0.75 * np.mean(aside["adenocarcinoma"])


def test_difficulty_takes_contrast_and_adds_noise() -> None:
    def contrast_and_noise(difficulty: float) -> tuple[float, float]:
        spec = PhantomSpec(patients=6, slices=(1, 1), difficulty=difficulty, classes=("large_cell",))
        sound = generate(replace(spec, classes=("normal",)))
        pairs = [(a.drawing.values, b.drawing.values) for a, b in zip(sound, generate(spec), strict=True)]
        return (
            float(np.mean([np.abs(b - a).max() for a, b in pairs])),
            float(np.mean([a[:10, :10].std() for a, _ in pairs])),
        )

    found = [contrast_and_noise(difficulty) for difficulty in (0.0, 0.5, 1.0)]
    assert all(easy[0] > hard[0] and easy[1] < hard[1] for easy, hard in pairwise(found))


def metadata_of(path: Path) -> list[float]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return [float(path.stat().st_size), *map(float, picture.shape), float(picture.ndim)]


def border_of(path: Path) -> list[float]:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    small = cv2.resize(np.asarray(picture), (24, 24), interpolation=cv2.INTER_AREA)
    rim = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1], picture[:4, :4].ravel()])
    return [float(value) for value in rim]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("seeds")
    specs = [PhantomSpec(patients=100, seed=seed, size=48, slices=(1, 2)) for seed in range(3)]
    return [write(spec, root / str(spec.seed)) for spec in specs]


@pytest.mark.parametrize("probe", [metadata_of, border_of])
def test_probes_of_metadata_and_border_stay_at_chance(
    probe: Callable[[Path], list[float]], folders: list[Path]
) -> None:
    scores = []
    for folder in folders:
        rows = rows_of(folder / "cases.csv")
        features = np.array([probe(folder / row["path"]) for row in rows])
        labels, patients = ([row[name] for row in rows] for name in ("label", "patient_id"))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
        chances = cross_val_predict(model, features, labels, groups=patients, cv=folds, method="predict_proba")
        scores.append(roc_auc_score(labels, chances, multi_class="ovr"))
    assert 0.42 < np.mean(scores) < 0.56


def test_the_folder_and_its_tables_agree(tmp_path: Path) -> None:
    spec = PhantomSpec(patients=12, size=48)
    folder = write(spec, tmp_path / "phantoms")
    rows, spots = rows_of(folder / "cases.csv"), rows_of(folder / "nodules.csv")
    items = list(generate(spec))
    assert {row["path"] for row in rows} == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    for row, item in zip(rows, items, strict=True):
        assert row == {
            "path": f"{item.label}/{item.patient_id}_{item.index}.png",
            "label": item.label,
            "patient_id": item.patient_id,
        }
        found = cv2.imread(str(folder / row["path"]), cv2.IMREAD_UNCHANGED)
        assert found is not None
        assert np.array_equal(found, item.pixels)
    assert {row["path"] for row in spots} == {row["path"] for row in rows if row["label"] != "normal"}
    truth = [spot_of(item) for item in items if item.nodule]
    assert [float(row["x"]) for row in spots] == pytest.approx([spot.x for spot in truth], abs=0.01)
    assert [float(row["radius"]) for row in spots] == pytest.approx([spot.radius for spot in truth], abs=0.01)


def test_two_writes_of_a_spec_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(SMALL, tmp_path / name) for name in ("a", "b"))
    found = [{p.relative_to(root): p.read_bytes() for p in root.rglob("*.*")} for root in (first, second)]
    assert found[0] == found[1]


def test_a_test_share_splits_by_patient_and_class(tmp_path: Path) -> None:
    folder = write(PhantomSpec(patients=32, size=32, test_share=0.25), tmp_path / "phantoms")
    rows = rows_of(folder / "cases.csv")
    sides = {split: {row["patient_id"] for row in rows if row["split"] == split} for split in ("train", "test")}
    assert (len(sides["train"]), len(sides["test"])) == (24, 8)
    assert not sides["train"] & sides["test"]
    assert {row["label"] for row in rows if row["split"] == "test"} == set(PhantomSpec().classes)
    assert all((folder / row["path"]).is_file() and row["path"].startswith(row["split"]) for row in rows)


def test_phantoms_do_not_go_into_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="empty folder"):
        write(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "chest"}, "Did you mean 'chest_ct'"),
        ({"classes": ("norml",)}, "Did you mean 'normal'"),
        ({"classes": ("normal", "normal")}, "classes must differ"),
        ({"patients": 0}, "patients"),
        ({"slices": (3, 2)}, "slices"),
        ({"size": 8}, "size"),
        ({"seed": -1}, "seed"),
        ({"difficulty": 1.5}, "difficulty"),
        ({"test_share": 1.0}, "test_share"),
        ({"monochrome1": True}, "format='dicom'"),
    ],
)
def test_a_spec_that_cannot_be_made_says_why(change: dict[str, object], says: str) -> None:
    with pytest.raises((UserError, UnknownName), match=says):
        PhantomSpec(**change)  # type: ignore[arg-type]
