"""Planted copies are found, and different pictures stay apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from medloop.audit.images.checks import find_copies
from medloop.audit.images.features import summarize_images
from medloop.audit.images.near_duplicates import candidate_pairs, difference, near_duplicates
from medloop.phantoms import PhantomSpec, generate
from tests.audit.images.image_sets import ImageSet, pairs, phantoms
from tests.phantoms.fault_folder import Fault

NEAR = ("near_duplicate_jpeg", "near_duplicate_shift", "near_duplicate_contrast")
FAULTS = tuple(Fault(name=name, share=0.05) for name in ("exact_duplicate", *NEAR))


@pytest.fixture(scope="module", params=[("chest_ct", 64), ("chest_ct", 96), ("six_kinds", 64)], ids=str)
def copied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    kind, size = request.param
    return phantoms(tmp_path_factory.mktemp("copies") / "set", *FAULTS, kind=kind, size=size, patients=90, seed=5)


def test_all_exact_and_nearly_all_near_copies_are_found(copied: ImageSet, tmp_path: Path) -> None:
    summaries = summarize_images(copied.cases["path"].tolist(), copied.read, tmp_path)
    copies = find_copies(copied.cases, summaries)
    exact = pairs(copied.planted["exact_duplicate"], copied.places)
    assert {tuple(group) for group in copies.exact} == exact
    planted = set().union(*(pairs(copied.planted[name], copied.places) for name in NEAR))
    found = {(a, b) for group in copies.near for a in group for b in group if a < b}
    assert len(found & planted) >= 0.95 * len(planted)
    assert len(found & planted) >= 0.95 * len(found)


def test_all_copies_of_an_image_are_in_one_group(copied: ImageSet, tmp_path: Path) -> None:
    summaries = summarize_images(copied.cases["path"].tolist(), copied.read, tmp_path)
    together = {place for group in find_copies(copied.cases, summaries).together for place in group}
    assert {place for pair in pairs(copied.planted["exact_duplicate"], copied.places) for place in pair} <= together


def test_slices_of_one_patient_are_no_copies_even_if_patients_are_unknown(tmp_path: Path) -> None:
    slices = phantoms(tmp_path / "set", patients=25, slices=(6, 6), seed=8)
    summaries = summarize_images(slices.cases["path"].tolist(), slices.read, tmp_path / "scratch")
    assert len(near_duplicates(summaries, np.arange(len(slices.cases)))) == 0


def picture(seed: int = 0) -> NDArray[np.uint8]:
    return next(iter(generate(PhantomSpec(patients=1, seed=seed, size=64)))).pixels


@pytest.mark.parametrize(
    "change",
    [
        lambda grey: np.rint(grey * 0.6 + 50).astype(np.uint8),
        lambda grey: np.roll(grey, (1, -1), axis=(0, 1)),
        lambda grey: cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE),
        lambda grey: cv2.line(grey.copy(), (5, 5), (20, 24), 255, 1),
    ],
    ids=["contrast", "shift", "jpeg", "scribble"],
)
def test_a_changed_image_is_recognized(change: object) -> None:
    grey = picture()
    assert difference(grey[None], np.asarray(change(grey))[None]).same().all()  # type: ignore[operator]


def test_two_patients_and_two_blank_images_are_different() -> None:
    blank = np.full((1, 64, 64), 9, np.uint8)
    assert not difference(picture(0)[None], picture(1)[None]).same().any()
    assert not difference(blank, blank).same().any()


def test_the_hash_finds_close_codes() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(4000, 24)).astype(np.float32)
    codes[1::40] = codes[::40] + rng.normal(scale=0.14, size=(100, 24)).astype(np.float32)
    found = {tuple(pair) for pair in candidate_pairs(codes).tolist()}
    wanted = {(place, place + 1) for place in range(0, 4000, 40)}
    assert len(found & wanted) >= 97
    assert len(found) < 400


def test_candidate_pairs_stay_bounded_where_all_images_are_similar() -> None:
    codes = np.random.default_rng(0).normal(scale=0.01, size=(3000, 24)).astype(np.float32)
    assert len(candidate_pairs(codes)) <= 2 * 6 * 3000
