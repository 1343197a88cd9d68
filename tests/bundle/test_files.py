"""A bundle is used only if every byte is the one that was sealed, and nothing in it is run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.errors import BrokenBundle
from tests.bundle.verify import hostile_bundles as hostile

NAMES = (files.MODEL, files.META, files.REFERENCE, files.CHECKSUMS)


@pytest.fixture
def bundle(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden, tmp_path / "bundle"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_whole_bundle_has_one_hash_wherever_it_lies(golden: Path, bundle: Path) -> None:
    assert files.verify(bundle) == files.verify(golden) == Predictor.load(bundle).hash


def test_the_golden_bundle_is_small_and_holds_data_only(golden: Path) -> None:
    assert sorted(path.name for path in golden.iterdir()) == sorted(NAMES)
    assert sum(path.stat().st_size for path in golden.iterdir()) < 60_000


@pytest.mark.parametrize("place", [0, 100, -1], ids=["first", "inner", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_in_any_file_is_refused(bundle: Path, name: str, place: int) -> None:
    flip(bundle / name, place)
    with pytest.raises(BrokenBundle):
        Predictor.load(bundle)


def test_every_byte_of_the_checksums_counts_even_a_space(bundle: Path) -> None:
    path = bundle / files.CHECKSUMS
    content = path.read_bytes()
    for place in range(0, len(content), 2):
        flip(path, place)
        with pytest.raises(BrokenBundle):
            files.verify(bundle)
        path.write_bytes(content)
    assert files.verify(bundle)


def test_checksums_written_in_another_way_are_refused(bundle: Path) -> None:
    path = bundle / files.CHECKSUMS
    path.write_text(json.dumps(json.loads(path.read_text("utf-8"))), encoding="utf-8")
    with pytest.raises(BrokenBundle):
        files.verify(bundle)


@pytest.mark.parametrize("damage", hostile.DAMAGES.values(), ids=hostile.DAMAGES)
def test_a_file_that_came_went_or_leads_elsewhere_is_refused(bundle: Path, damage: hostile.Damage) -> None:
    damage(bundle)
    with pytest.raises(BrokenBundle):
        Predictor.load(bundle)


@pytest.mark.parametrize("damage", hostile.MISFITS.values(), ids=hostile.MISFITS)
def test_a_sealed_bundle_whose_contents_do_not_fit_is_refused(bundle: Path, damage: hostile.Damage) -> None:
    damage(bundle)
    files.seal(bundle)
    with pytest.raises(BrokenBundle) as refusal:
        Predictor.load(bundle)
    assert str(bundle.parent) not in str(refusal.value)


def test_an_older_format_is_refused_with_a_hint(bundle: Path) -> None:
    hostile.described(format=0)(bundle)
    files.seal(bundle)
    with pytest.raises(BrokenBundle, match=r"format 0, but this version of medloop reads format 1"):
        Predictor.load(bundle)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("payload", hostile.PAYLOADS.values(), ids=hostile.PAYLOADS)
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "slipped in"])
def test_a_payload_in_place_of_a_file_is_refused_and_never_runs(
    bundle: Path, tmp_path: Path, name: str, payload: Callable[[Path], bytes], sealed: bool
) -> None:
    (bundle / name).write_bytes(payload(tmp_path / "ran"))
    if sealed and name != files.CHECKSUMS:
        files.seal(bundle)
    with pytest.raises(BrokenBundle):
        Predictor.load(bundle)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["estimator.pkl", "model.joblib", "model.pt", "sitecustomize.py", "conftest.py"])
def test_an_additional_payload_is_refused_even_if_it_was_sealed(bundle: Path, tmp_path: Path, name: str) -> None:
    (bundle / name).write_bytes(hostile.pickled(tmp_path / "ran"))
    for _ in range(2):
        with pytest.raises(BrokenBundle, match=f"missing or additional files: {name}"):
            Predictor.load(bundle)
        files.seal(bundle)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "empty").mkdir()
    with pytest.raises(BrokenBundle, match=r"checksums\.json"):
        Predictor.load(tmp_path / "empty")
