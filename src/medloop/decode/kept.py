"""A cache of what is made of each decoded picture: arrays of one size, found by the hash of the image file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medloop.decode.rule import Pixels

ROWS, HASHES = ".rows", ".json"

# Stores the arrays of one picture under the SHA-256 of its file.
Keep = Callable[[str, Pixels], None]


@dataclass(frozen=True, kw_only=True)
class Derived:
    """An array that is made of each picture, and the name of its folder in the cache."""

    name: str
    make: Callable[[Pixels], NDArray[Any]]


class Place(NamedTuple):
    """Where a kept array begins."""

    file: str
    offset: int


@contextmanager
def keeping(folder: str | None, derived: Sequence[Derived], shard: str) -> Iterator[Keep]:
    """Write what is made of the pictures of one chunk of files; `shard` names the chunk."""
    if folder is None:
        yield lambda _hash, _pixels: None
        return
    hashes: list[str] = []
    places = [Path(folder) / one.name for one in derived]
    with ExitStack() as stack:
        for place in places:
            place.mkdir(exist_ok=True)
        files = [stack.enter_context((place / f"{shard}{ROWS}").open("wb")) for place in places]

        def keep(file_sha256: str, pixels: Pixels) -> None:
            rows = [np.ascontiguousarray(one.make(pixels)).tobytes() for one in derived]
            for file, row in zip(files, rows, strict=True):
                file.write(row)
            hashes.append(file_sha256)

        yield keep
    for place in places:
        (place / f"{shard}{HASHES}").write_text(json.dumps(hashes), "utf-8")


class KeptRows:
    """The arrays of one kind that a folder of the cache holds; none where there is no such folder."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self._places = dict(_places(folder, dtype.itemsize))

    def place(self, file_sha256: str) -> Place | None:
        """Return where the array of a file lies, if it was kept."""
        return self._places.get(file_sha256)


def read_row(place: Place, dtype: np.dtype[Any]) -> Any | None:
    """Return a kept array, or None where it can no longer be read."""
    try:
        with open(place.file, "rb") as file:  # noqa: PTH123 - one of many small reads
            file.seek(place.offset)
            content = file.read(dtype.itemsize)
    except OSError:
        return None
    return np.frombuffer(content, dtype)[0] if len(content) == dtype.itemsize else None


def _places(folder: Path, size: int) -> Iterator[tuple[str, Place]]:
    for index in sorted(folder.glob(f"*{HASHES}")):
        rows = str(index.with_suffix(ROWS))
        for number, file_sha256 in enumerate(json.loads(index.read_text("utf-8"))):
            yield file_sha256, Place(rows, number * size)
