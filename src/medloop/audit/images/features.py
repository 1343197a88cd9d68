"""The summary of each image: a small grey copy and a few numbers, so that memory does not grow with image size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.errors import RejectedInput
from medloop.progress import track

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Read = Callable[[str], Pixels]

SIDE = 64
BINS = 32
# Colour channels of a pixel that differ by more than JPEG rounding errors.
CHROMA = 40
COLOURED = 0.002
CORNER, MARK_CONTRAST, MARK_AREA = 16, 120, 8


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """The summary of one image."""

    thumbnail: Pixels
    border: Floats
    histogram: Floats
    coloured: float
    marked: bool
    spread: float


# The same as an array type, for the cache.
SUMMARY_TYPE = np.dtype(
    [
        ("thumbnail", np.uint8, (SIDE, SIDE)),
        ("border", np.float32, (48,)),
        ("histogram", np.float32, (BINS,)),
        ("coloured", np.float32),
        ("marked", np.bool_),
        ("spread", np.float32),
    ]
)


def pack_summary(pixels: Pixels) -> NDArray[Any]:
    """Return the summary of one image as an array of SUMMARY_TYPE."""
    summary = summarize_image(pixels)
    return np.array(tuple(getattr(summary, name) for name in SUMMARY_TYPE.names or ()), SUMMARY_TYPE)


def unpack_summary(packed: Any) -> ImageSummary:
    """Return the summary that `pack_summary` packed."""
    return ImageSummary(**{name: packed[name] for name in SUMMARY_TYPE.names or ()})


@dataclass(frozen=True, kw_only=True)
class ImageSummaries:
    """The summaries of all images, in the order of the manifest; the thumbnails stay on disk."""

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
        """Return the thumbnails at these places."""
        # Opened for each use: pages that stay mapped would count as memory of this process.
        stored = np.memmap(self.file, np.uint8, mode="r", shape=(len(self), SIDE, SIDE))
        return np.array(stored[np.asarray(places, np.int64)])

    def chunks(self, places: NDArray[np.int64], *, size: int = 1024) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
        """Yield the thumbnails at these places, some at a time."""
        for start in range(0, len(places), size):
            some = places[start : start + size]
            yield some, self.thumbnails(some)


def summarize_images(
    paths: Sequence[str], read: Read, scratch: Path, *, known: Iterable[ImageSummary | str] | None = None
) -> ImageSummaries:
    """Return the summaries of all images; `known` are those computed before, or why an image cannot be read."""
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / "thumbnails.u8"
    rows: list[tuple[Floats, Floats, float, bool, float]] = []
    broken: dict[int, str] = {}
    blank = summarize_image(np.zeros((SIDE, SIDE), np.uint8))
    with file.open("wb") as store:
        found = track(known or _summarize_each(paths, read), total=len(paths), what="reading the images")
        for place, result in enumerate(found):
            if isinstance(result, str):
                broken[place] = result
            one = blank if isinstance(result, str) else result
            store.write(one.thumbnail.tobytes())
            rows.append((one.border, one.histogram, one.coloured, one.marked, one.spread))
    border, histogram, coloured, marked, spread = zip(*rows, strict=True)
    return ImageSummaries(
        file=file,
        border=np.stack(border),
        histogram=np.stack(histogram),
        coloured=np.array(coloured, np.float32),
        marked=np.array(marked, bool),
        spread=np.array(spread, np.float32),
        broken=broken,
    )


def _summarize_each(paths: Sequence[str], read: Read) -> Iterator[ImageSummary | str]:
    for path in paths:
        yield summary_or_reason(partial(read, path))


def summary_or_reason(read: Callable[[], Pixels]) -> ImageSummary | str:
    """Return the summary of the image that `read` decodes, or why it cannot be read."""
    try:
        return summarize_image(read())
    except RejectedInput as error:
        return error.reason


def summarize_image(pixels: Pixels) -> ImageSummary:
    """Return the summary of one image."""
    grey = grey_of(pixels)
    thumbnail = np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    counts = cv2.calcHist([grey], [0], None, [BINS], [0, 256]).ravel()
    return ImageSummary(
        thumbnail=thumbnail,
        border=border_of(grey),
        histogram=np.asarray(counts / grey.size, np.float32),
        coloured=_coloured_share(pixels),
        marked=_corner_mark(thumbnail),
        spread=float(thumbnail.std()),
    )


def grey_of(pixels: Pixels) -> Pixels:
    """Return the brightness of an image as one channel."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def border_of(grey: Pixels) -> Floats:
    """Return the brightness and contrast of the four edges and corners, without the centre and the image size."""
    height, width = grey.shape
    frame = max(2, round(0.04 * min(height, width)))
    side = max(4, min(height, width) // 8)
    strips = [grey[:frame], grey[-frame:], grey[:, :frame], grey[:, -frame:]]
    corners = [grey[:side, :side], grey[:side, -side:], grey[-side:, :side], grey[-side:, -side:]]
    return np.concatenate([_strip_features(part) for part in (*strips, *corners)])


def _strip_features(part: Pixels) -> Floats:
    low, middle, high = np.quantile(part, (0.1, 0.5, 0.9))
    return np.array([part.mean(), part.std(), low, middle, high, (part == 0).mean() * 255], np.float32)


def _coloured_share(pixels: Pixels) -> float:
    if pixels.ndim == 2:
        return 0.0
    highest = cv2.max(cv2.max(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    lowest = cv2.min(cv2.min(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return float((cv2.subtract(highest, lowest) > CHROMA).mean())


def _corner_mark(thumbnail: Pixels) -> bool:
    """Return whether a corner has a solid bright patch that is not part of a larger structure."""
    turned = (np.rot90(thumbnail, quarter)[:CORNER, :CORNER] for quarter in range(4))
    return any(_has_mark(np.ascontiguousarray(corner)) for corner in turned)


def _has_mark(corner: Pixels) -> bool:
    """Return whether the corner has a compact bright patch that does not reach its last row or column."""
    bright = (corner > np.median(corner) + MARK_CONTRAST).astype(np.uint8)
    if not bright.any():
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
    for left, top, width, height, area in stats[1:].tolist():
        if left + width < CORNER and top + height < CORNER and area >= MARK_AREA and area > 0.6 * width * height:
            return True
    return False
