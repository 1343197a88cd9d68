"""Files become cases: read, hashed and decoded once; what cannot be decoded keeps its row with the reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medloop.decode.examine import FIRST_READ, UNREADABLE, Examiner, read_image
from medloop.decode.parallel import MIN_FILES_FOR_PROCESSES
from medloop.decode.pool import Sandbox
from medloop.decode.raster import DEFAULT_LIMITS, pixel_hash
from medloop.storage import sha256_file
from tests.decode.picture_files import animated_png, huge_png, png
from tests.image_files import picture, read_images, write_classes, write_picture

BROKEN = {
    "empty.png": (b"", "The file is empty"),
    "text.png": (b"hello there, no image", "The file is a text file"),
    "page.jpg": (b"<!doctype html><html></html>", "The file is an HTML page"),
    "cut.png": (png(picture(1))[:-40], "The PNG file is cut off or damaged"),
    "film.png": (animated_png(10_000), "The file has more than one frame"),
    "huge.png": (huge_png(13_300, 13_300), "The image has 13,300 x 13,300 pixels, more than the 64,000,000 allowed"),
    "paper.pdf": (b"%PDF-1.7 ...", "The file is a PDF document"),
}


def test_unreadable_files_are_set_aside_with_their_reasons_and_keep_their_rows(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    for name, (data, _) in BROKEN.items():
        (scans / "normal" / name).write_bytes(data)
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    aside = cases[cases["quarantined"].notna()]
    found = {Path(path).name: reason for path, reason in zip(aside["path"], aside["quarantined"], strict=True)}
    assert found == {name: reason for name, (_, reason) in BROKEN.items()}
    assert len(cases) == 8 + len(BROKEN)
    assert aside["file_sha256"].notna().all()
    assert aside["pixel_sha256"].isna().all()


def test_every_broken_file_beside_99_good_ones_is_named_alone(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", each=50)
    (scans / "normal" / "p0_000.png").write_bytes(b"broken")
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    assert cases["quarantined"].notna().sum() == 1
    assert cases["pixel_sha256"].notna().sum() == 99


def test_hashes_are_those_of_the_file_and_of_its_pixels(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", each=1)
    cases = read_images(tmp_path / "p", source="folder", path=str(scans)).set_index("label")
    data = (scans / "normal" / "p0_000.png").read_bytes()
    assert cases.loc["normal", "file_sha256"] == hashlib.sha256(data).hexdigest()
    assert cases.loc["normal", "pixel_sha256"] == pixel_hash(picture(0))
    assert cases.loc["normal", "bytes"] == len(data)


def test_the_same_picture_in_another_format_has_the_same_pixels(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", each=1)
    write_picture(scans / "normal" / "again.bmp", 0)
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    same = cases[cases["pixel_sha256"] == pixel_hash(picture(0))]
    assert len(same) == 2
    assert set(same["format"]) == {"png", "bmp"}


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", each=1)
    write_picture(tmp_path / "as.jpg", 5).rename(scans / "normal" / "called.png")
    write_picture(tmp_path / "as.png", 6).rename(scans / "normal" / "called_nothing")
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    formats = {Path(path).name: form for path, form in zip(cases["path"], cases["format"], strict=True)}
    assert formats["called.png"] == "jpeg"
    assert formats["called_nothing"] == "png"


def test_many_files_in_many_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    half = MIN_FILES_FOR_PROCESSES // 2 + 1
    scans = write_classes(tmp_path / "scans", each=half)
    (scans / "tumour" / "broken.png").write_bytes(b"broken")
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    expected = {f"p{number % 3}_{number:03d}.png": pixel_hash(picture(number)) for number in range(2 * half)}
    found = {Path(path).name: digest for path, digest in zip(cases["path"], cases["pixel_sha256"], strict=True)}
    assert pd.isna(found.pop("broken.png"))
    assert found == expected


def test_a_file_that_goes_away_meanwhile_is_set_aside(tmp_path: Path) -> None:
    write_picture(tmp_path / "here.png", 1)
    with Sandbox() as sandbox:
        found = Examiner(root=str(tmp_path))(["here.png", "gone.png"], sandbox)
    assert [file.frames for file in found] == [0, 0]
    facts = [file.facts[0] for file in found]
    assert [one.quarantined for one in facts] == [None, UNREADABLE]
    assert [one.file_sha256 for one in facts] == [sha256_file(tmp_path / "here.png"), None]


@pytest.mark.parametrize("size", [0, 1, FIRST_READ - 1, FIRST_READ, FIRST_READ + 1, 5 * FIRST_READ + 7])
def test_a_file_of_any_size_is_read_whole(size: int, tmp_path: Path) -> None:
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert read_image(str(tmp_path / "file")) == data


def test_a_file_too_large_for_an_image_is_hashed_but_not_loaded(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", each=1)
    size = DEFAULT_LIMITS.max_bytes + 1
    with (scans / "normal" / "large.png").open("wb") as file:
        file.truncate(size)
    assert read_image(str(scans / "normal" / "large.png")) == size
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    row = cases[cases["bytes"] == size].iloc[0]
    assert row["quarantined"] == f"The file has {size:,} bytes"
    assert row["file_sha256"] == hashlib.sha256(bytes(size)).hexdigest()
