"""Copies that were flipped, rotated or inverted are found and grouped; mirrored neighbours are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from medloop.audit.images.checks import Copies, find_copies
from medloop.audit.images.features import summarize_images
from medloop.audit.images.near_duplicates import near_duplicates
from medloop.audit.images.orientations import COSETS, orient, spectra_of_cosets
from medloop.phantoms import PhantomSpec, generate, write
from tests.loop_project import medloop

Picture = NDArray[np.uint8]

CHANGES: dict[str, tuple[Callable[[Picture], Picture], str]] = {
    "flipped": (lambda grey: grey[:, ::-1], "flipped left to right"),
    "upside down": (lambda grey: grey[::-1], "flipped top to bottom"),
    "quarter turn": (np.rot90, "rotated by 90 degrees"),
    "half turn": (lambda grey: np.rot90(grey, 2), "rotated by 180 degrees"),
    "three quarters": (lambda grey: np.rot90(grey, 3), "rotated by 90 degrees"),
    "inverted": (lambda grey: 255 - grey, "inverted"),
    "inverted and flipped": (lambda grey: 255 - grey[:, ::-1], "flipped left to right and inverted"),
}
EACH = 12


def pictures_of(**options: Any) -> list[Picture]:
    return [one.pixels for one in generate(PhantomSpec(size=64, **options))]


def copies_among(pictures: list[Picture], folder: Path) -> Copies:
    names = [str(place) for place in range(len(pictures))]
    summaries = summarize_images(names, lambda name: np.ascontiguousarray(pictures[int(name)]), folder)
    hashes = [picture.tobytes().hex()[:4096] + str(picture.shape) for picture in pictures]
    return find_copies(pd.DataFrame({"pixel_sha256": hashes, "patient_id": [None] * len(names)}), summaries)


@pytest.fixture(scope="module", params=["chest_ct", "six_kinds"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Copies, int]:
    originals = pictures_of(kind=request.param, patients=EACH * len(CHANGES), slices=(1, 1), seed=4)
    copies = [
        change(picture)
        for place, (change, _) in enumerate(CHANGES.values())
        for picture in originals[place * EACH : (place + 1) * EACH]
    ]
    return copies_among([*originals, *copies], tmp_path_factory.mktemp("turned")), len(originals)


@pytest.mark.parametrize("kind", CHANGES)
def test_copies_of_each_kind_are_found_and_named(planted: tuple[Copies, int], kind: str) -> None:
    copies, count = planted
    first = list(CHANGES).index(kind) * EACH
    wanted = {(place, count + place) for place in range(first, first + EACH)}
    changes = {tuple(sorted((a, b))): change for a, b, change in copies.changes}
    assert len(wanted & set(changes)) >= 0.95 * EACH
    assert {changes[pair] for pair in wanted & set(changes)} == {CHANGES[kind][1]}


def test_only_copies_are_found_and_grouped(planted: tuple[Copies, int]) -> None:
    copies, count = planted
    assert all(len(group) == 2 and group[1] == group[0] + count for group in copies.near)
    assert copies.together == copies.near


def test_mirrored_neighbouring_slices_are_no_copies(tmp_path: Path) -> None:
    slices = pictures_of(patients=25, slices=(6, 6), seed=8)
    turned = [CHANGES[name][0](slices[place]) for name in CHANGES for place in range(1, len(slices), 6)]
    upright = [slices[place] for place in range(len(slices)) if place % 6 != 1]
    copies = copies_among([*upright, *turned], tmp_path)
    # Copies of one slice match each other, and nothing of what lies beside it.
    assert all(place >= len(upright) for group in copies.near for place in group)


def test_a_plain_copy_is_not_described_as_rotated(tmp_path: Path) -> None:
    originals = pictures_of(patients=20, slices=(1, 1), seed=2)
    again = [cv2.imdecode(cv2.imencode(".jpg", one)[1], cv2.IMREAD_GRAYSCALE) for one in originals]
    assert {change for _, _, change in copies_among([*originals, *again], tmp_path).changes} == {""}


def test_symmetric_images_are_no_copies_of_themselves(tmp_path: Path) -> None:
    half = np.array(pictures_of(patients=12, slices=(1, 1), seed=6))[..., :32]
    symmetric = np.concatenate([half, half[..., ::-1]], axis=2)
    summaries = summarize_images([str(n) for n in range(12)], lambda name: symmetric[int(name)], tmp_path)
    assert len(near_duplicates(summaries, np.arange(12))) == 0


def test_the_spectrum_of_a_rotated_image_is_read_from_the_upright_one() -> None:
    grid = np.mgrid[-3:4, 0:4].reshape(2, -1)
    rows, columns = grid[:, (grid[1] > 0) | (grid[0] > 0)]
    pictures = np.random.default_rng(0).normal(size=(3, 16, 16))

    def strength(some: NDArray[Any]) -> NDArray[Any]:
        return np.abs(np.fft.rfft2(some))[:, rows, columns]

    for orientations, source in zip(COSETS, spectra_of_cosets(rows, columns), strict=True):
        for orientation in orientations:
            np.testing.assert_allclose(strength(orient(pictures, orientation)), strength(pictures)[:, source])


def test_the_command_describes_each_copy_and_lists_unchecked_kinds(tmp_path: Path) -> None:
    folder = write(PhantomSpec(size=64, patients=24, slices=(1, 1), seed=1), tmp_path / "set")
    chosen = sorted(folder.rglob("*.png"))[:4]
    for path, change in zip(chosen, ("flipped", "quarter turn", "inverted", "half turn"), strict=True):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path.with_name(f"new_{path.name}")), CHANGES[change][0](np.asarray(picture, np.uint8)))
    ended = medloop("audit", "set", cwd=tmp_path)
    assert ended.code == 0
    for words in ("flipped left to right", "rotated by 90 degrees", "inverted", "rotated by 180 degrees"):
        assert f"1 pair {words} (" in ended.out
    page = (tmp_path / "medloop-audit" / "report" / "audit.html").read_text("utf-8")
    for text in (ended.out, page):
        assert "It does not look for cropped copies, padded copies or copies rotated by other angles." in text
