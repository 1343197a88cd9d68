"""The cache of what is made of decoded pictures: what was kept is read back, and anything else is simply absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medloop.decode.kept import Derived, KeptRows, Place, keeping, read_row

ROW = np.dtype((np.uint8, (2, 3)))


def small(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    return pixels[:2, :3]


def picture(number: int) -> NDArray[np.uint8]:
    return np.arange(20, dtype=np.uint8).reshape(4, 5) + np.uint8(number)


def keep(folder: Path, numbers: range, shard: str) -> None:
    with keeping(str(folder), [Derived(name="small", make=small)], shard) as add:
        for number in numbers:
            add(f"hash{number}", picture(number))


def test_each_row_is_found_by_the_hash_of_its_file(tmp_path: Path) -> None:
    keep(tmp_path, range(3), "first")
    keep(tmp_path, range(3, 5), "second")
    rows = KeptRows(tmp_path / "small", ROW)
    for number in range(5):
        place = rows.place(f"hash{number}")
        assert place is not None
        row = read_row(place, ROW)
        assert row is not None
        assert np.array_equal(row, small(picture(number)))
    assert rows.place("another") is None


def test_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    with keeping(None, [], "any") as add:
        add("hash", picture(0))
    assert not list(tmp_path.iterdir())


def test_a_chunk_that_was_broken_off_is_not_found(tmp_path: Path) -> None:
    def broken_off() -> None:
        with keeping(str(tmp_path), [Derived(name="small", make=small)], "one") as add:
            add("hash", picture(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert KeptRows(tmp_path / "small", ROW).place("hash") is None


def test_a_row_that_is_gone_or_cut_off_is_none(tmp_path: Path) -> None:
    keep(tmp_path, range(2), "one")
    place = KeptRows(tmp_path / "small", ROW).place("hash1")
    assert place is not None
    with Path(place.file).open("r+b") as file:
        file.truncate(7)
    assert read_row(place, ROW) is None
    assert read_row(Place(str(tmp_path / "none"), 0), ROW) is None


def test_a_folder_that_is_absent_holds_nothing(tmp_path: Path) -> None:
    assert KeptRows(tmp_path / "absent", ROW).place("hash") is None
