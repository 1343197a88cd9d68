"""What holds for every entry of SOURCES: the fixed columns, ids of their own, and no order that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medloop.data import SOURCES, manifest, read_source
from medloop.data.phantom import PhantomSpec, write
from medloop.errors import UnknownName, UserError
from medloop.recipe import DataSection
from tests.slips import are_one_slip_apart, slips
from tests.tables import LABEL, clinic, places, write_csv

Order = Callable[[Sequence[Any]], Iterable[Any]]
CLASSES = ("nodule", "normal")
COUNT = 8


def pictures(folder: Path, order: Order) -> list[tuple[str, str]]:
    """Files of two classes, written in this order; no two alike."""
    written = []
    for number in order(range(COUNT)):
        name = f"{CLASSES[number % 2]}/{number:02d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(number).integers(0, 255, (12, 10), dtype=np.uint8)
        Image.fromarray(grey).save(folder / name)
        written.append((name, CLASSES[number % 2]))
    return written


def make_csv(folder: Path, order: Order) -> dict[str, Any]:
    table = clinic(COUNT)
    return {
        "path": str(write_csv(table.iloc[list(order(range(COUNT)))], folder)),
        "label": LABEL,
        "patient": "patient",
    }


def make_wisconsin(folder: Path, order: Order) -> dict[str, Any]:
    return {}


def make_folder(folder: Path, order: Order) -> dict[str, Any]:
    pictures(folder / "pictures", order)
    return {"path": str(folder / "pictures")}


def make_csv_images(folder: Path, order: Order) -> dict[str, Any]:
    table = pd.DataFrame(pictures(folder, order), columns=["file", "finding"])
    return {"path": str(write_csv(table, folder)), "image": "file", "label": "finding"}


def make_dicom(folder: Path, order: Order) -> dict[str, Any]:
    spec = PhantomSpec(kind="chest_ct", patients=4, slices=(1, 1), size=32, format="dicom")
    write(spec, folder / "phantoms")
    return {"path": str(folder / "phantoms")}


def make_medmnist(folder: Path, order: Order) -> dict[str, Any]:
    arrays = {}
    for part, count in {"train": 4, "val": 2, "test": 2}.items():
        rng = np.random.default_rng(count)
        arrays[f"{part}_images"] = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).reshape(-1, 1).astype(np.uint8)
    arrays["train_images"] += np.arange(4, dtype=np.uint8).reshape(-1, 1, 1)
    np.savez(folder / "set.npz", **arrays)
    return {"path": str(folder / "set.npz")}


def make_phantoms(folder: Path, order: Order) -> dict[str, Any]:
    return {"phantom": {"patients": 4, "slices": 1, "size": 32}}


EXAMPLES: dict[str, Callable[[Path, Order], dict[str, Any]]] = {
    "csv": make_csv,
    "wisconsin": make_wisconsin,
    "folder": make_folder,
    "csv_images": make_csv_images,
    "dicom": make_dicom,
    "medmnist": make_medmnist,
    "phantoms": make_phantoms,
}
every_source = pytest.mark.parametrize("name", list(EXAMPLES))


def read(name: str, folder: Path, order: Order = list) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    section = DataSection(source=name, **EXAMPLES[name](folder, order))
    return read_source(section, places(folder.resolve()))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return {name: read(name, tmp_path_factory.mktemp(name)) for name in EXAMPLES}


def test_every_source_has_an_example() -> None:
    assert set(EXAMPLES) == set(SOURCES)


@every_source
def test_an_entry_explains_itself(name: str) -> None:
    assert SOURCES[name].says.endswith(".")


@every_source
def test_the_fixed_columns_come_first(name: str, manifests: dict[str, pd.DataFrame]) -> None:
    cases = manifests[name]
    assert cases.columns.tolist()[: len(manifest.COLUMNS)] == list(manifest.COLUMNS)
    assert set(cases["source"]) == {name}


@every_source
def test_every_case_has_an_id_of_its_own_and_stands_in_their_order(
    name: str, manifests: dict[str, pd.DataFrame]
) -> None:
    ids = manifests[name]["case_id"]
    assert ids.is_unique
    assert ids.is_monotonic_increasing
    assert ids.str.fullmatch("[0-9a-f]{20}").all()


@every_source
def test_every_case_has_a_label_a_fingerprint_and_no_reason_against_it(
    name: str, manifests: dict[str, pd.DataFrame]
) -> None:
    cases = manifests[name]
    assert cases["quarantined"].isna().all()
    assert cases["label"].nunique() >= 2
    assert cases["file_sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert len(cases) >= 4


@every_source
def test_tables_have_values_and_images_have_files(name: str, manifests: dict[str, pd.DataFrame]) -> None:
    cases = manifests[name]
    is_table = SOURCES[name].gives == "table"
    assert bool(manifest.value_columns(cases)) == is_table
    assert cases["path"].notna().all() == (not is_table)
    assert cases["width"].notna().all() == (not is_table)


@every_source
def test_the_order_of_rows_or_files_does_not_matter(
    name: str, manifests: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    again = read(name, tmp_path / name, lambda numbers: list(reversed(numbers)))
    expected = manifests[name]
    assert manifest.fingerprint(again) == manifest.fingerprint(expected)
    pd.testing.assert_frame_equal(again.drop(columns="path"), expected.drop(columns="path"))


@every_source
def test_a_manifest_survives_the_disk(name: str, manifests: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    manifest.write_cases(manifests[name], tmp_path / "cases.parquet")
    again = manifest.read_cases(tmp_path / "cases.parquet")
    assert manifest.fingerprint(again) == manifest.fingerprint(manifests[name])
    assert len(manifest.usable(again)) == len(manifests[name])


@every_source
def test_a_label_that_is_no_class_is_refused(name: str, tmp_path: Path) -> None:
    section = DataSection(source=name, **EXAMPLES[name](tmp_path, list), classes=("no", "such"))
    with pytest.raises(UserError):
        read_source(section, places(tmp_path.resolve()))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in ("wisconsin", "phantoms")])
def test_what_reads_from_a_place_says_so_where_none_is_given(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs data\.\w+"):
        read_source(DataSection(source=name), places(tmp_path))


@settings(deadline=None, max_examples=30)
@given(typed=st.sampled_from(list(SOURCES)).flatmap(slips).filter(lambda word: word not in SOURCES))
def test_one_slip_in_a_source_is_refused_with_the_name_that_was_meant(typed: str) -> None:
    with pytest.raises(UnknownName) as caught:
        read_source(DataSection(source=typed), places(Path()))
    assert caught.value.near in SOURCES
    assert are_one_slip_apart(typed, str(caught.value.near))
    assert all(name in caught.value.hint for name in SOURCES)
