"""What the audit keeps of each picture: a small grey copy and a few figures, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.errors import RejectedInput
from medloop.progress import track

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Read = Callable[[str], Pixels]

SIDE = 64
THREADS = 2
AT_ONCE = 256
BINS = 32
# A pixel whose colour channels lie further apart than JPEG's rounding puts them.
CHROMA = 40
COLOURED = 0.002
CORNER, MARK_CONTRAST, MARK_AREA = 16, 120, 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is kept of one picture."""

    thumbnail: Pixels
    border: Floats
    histogram: Floats
    coloured: float
    marked: bool
    spread: float


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is kept of all pictures, in the order of the manifest; the thumbnails stay on disk."""

    file: Path
    border: Floats
    histogram: Floats
    coloured: Floats
    marked: NDArray[np.bool_]
    spread: Floats
    broken: dict[int, str]

    def __len__(self) -> int:
        return len(self.spread)

    def thumbnails(self, places: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """The small grey copies at these places."""
        # Opened for each use: pages that stay mapped would count as memory of this process.
        stored = np.memmap(self.file, np.uint8, mode="r", shape=(len(self), SIDE, SIDE))
        return np.array(stored[np.asarray(places, np.int64)])

    def chunks(self, places: NDArray[np.int64], *, size: int = 1024) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
        """The small grey copies at these places, some at a time."""
        for start in range(0, len(places), size):
            some = places[start : start + size]
            yield some, self.thumbnails(some)


def look_at_all(paths: Sequence[str], read: Read, scratch: Path) -> Looks:
    """Decode each picture once and keep little of it."""
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / "thumbnails.u8"
    looks: list[tuple[Floats, Floats, float, bool, float]] = []
    broken: dict[int, str] = {}
    with file.open("wb") as store:
        for place, look in enumerate(track(_looks(paths, read), total=len(paths), what="looking at the images")):
            if isinstance(look, str):
                broken[place] = look
                look = look_at(np.zeros((SIDE, SIDE), np.uint8))  # noqa: PLW2901
            store.write(look.thumbnail.tobytes())
            looks.append((look.border, look.histogram, look.coloured, look.marked, look.spread))
    border, histogram, coloured, marked, spread = zip(*looks, strict=True)
    return Looks(
        file=file,
        border=np.stack(border),
        histogram=np.stack(histogram),
        coloured=np.array(coloured, np.float32),
        marked=np.array(marked, bool),
        spread=np.array(spread, np.float32),
        broken=broken,
    )


def _looks(paths: Sequence[str], read: Read) -> Iterator[Look | str]:
    def one(path: str) -> Look | str:
        try:
            return look_at(read(path))
        except RejectedInput as error:
            return error.found

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), AT_ONCE):
            yield from pool.map(one, paths[start : start + AT_ONCE])


def look_at(pixels: Pixels) -> Look:
    """Reduce one picture to what the audit needs."""
    grey = grey_of(pixels)
    thumbnail = np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    counts = cv2.calcHist([grey], [0], None, [BINS], [0, 256]).ravel()
    return Look(
        thumbnail=thumbnail,
        border=border_of(grey),
        histogram=np.asarray(counts / grey.size, np.float32),
        coloured=_coloured_share(pixels),
        marked=_corner_mark(thumbnail),
        spread=float(thumbnail.std()),
    )


def grey_of(pixels: Pixels) -> Pixels:
    """One channel of the picture's brightness."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def border_of(grey: Pixels) -> Floats:
    """How bright and how even the four edges and the four corners are; nothing of the middle, nothing of the size."""
    height, width = grey.shape
    frame = max(2, round(0.04 * min(height, width)))
    side = max(4, min(height, width) // 8)
    strips = [grey[:frame], grey[-frame:], grey[:, :frame], grey[:, -frame:]]
    corners = [grey[:side, :side], grey[:side, -side:], grey[-side:, :side], grey[-side:, -side:]]
    return np.concatenate([_summary(part) for part in (*strips, *corners)])


def _summary(part: Pixels) -> Floats:
    low, middle, high = np.quantile(part, (0.1, 0.5, 0.9))
    return np.array([part.mean(), part.std(), low, middle, high, (part == 0).mean() * 255], np.float32)


def _coloured_share(pixels: Pixels) -> float:
    if pixels.ndim == 2:
        return 0.0
    highest = cv2.max(cv2.max(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    lowest = cv2.min(cv2.min(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return float((cv2.subtract(highest, lowest) > CHROMA).mean())


def _corner_mark(thumbnail: Pixels) -> bool:
    """Whether a corner holds a solid bright patch that belongs to nothing else in the picture."""
    turned = (np.rot90(thumbnail, quarter)[:CORNER, :CORNER] for quarter in range(4))
    return any(_has_mark(np.ascontiguousarray(corner)) for corner in turned)


def _has_mark(corner: Pixels) -> bool:
    """The corner's inner edges are its last row and its last column: what touches them goes on."""
    bright = (corner > np.median(corner) + MARK_CONTRAST).astype(np.uint8)
    if not bright.any():
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
    for left, top, width, height, area in stats[1:].tolist():
        if left + width < CORNER and top + height < CORNER and area >= MARK_AREA and area > 0.6 * width * height:
            return True
    return False
