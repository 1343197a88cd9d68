"""Of the copies planted in a set, how many the audit finds, and how much else: of each kind eighty."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.image_sets import files_of
from benchmarks.row import Row
from medloop.audit.images.features import ImageSummaries, summarize_image
from medloop.audit.images.near_duplicates import near_duplicates
from medloop.audit.tables.near_rows import near_equal_rows
from medloop.data.groups import component_numbers
from medloop.decode.raster import decode
from medloop.errors import RejectedInput
from medloop.phantoms import PhantomSpec, generate

Pixels = NDArray[np.uint8]
Pairs = list[tuple[int, int]]

EACH, WANTED = 80, 0.95
NOISES = (1e-4, 3e-4, 1e-3)


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    packed = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.uint8)


def _noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 2, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[Pixels], Pixels]] = {
    "flipped left to right": lambda pixels: pixels[:, ::-1],
    "flipped top to bottom": lambda pixels: pixels[::-1],
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda pixels: np.rot90(pixels, 2),
    "turned by 270 degrees": lambda pixels: np.rot90(pixels, 3),
    "inverted": lambda pixels: 255 - pixels,
    "inverted and flipped": lambda pixels: 255 - pixels[:, ::-1],
    "flipped, JPEG at 75": lambda pixels: _jpeg(pixels[:, ::-1], 75),
    "JPEG at 50": lambda pixels: _jpeg(pixels, 50),
    "shifted by a pixel": lambda pixels: np.roll(pixels, (1, -1), axis=(0, 1)),
    "in less contrast": lambda pixels: np.rint(pixels * 0.8 + 20).astype(np.uint8),
    "with noise of 2 grey levels": _noisy,
}
PHANTOMS = (("chest_ct", 96), ("chest_ct", 224), ("six_kinds", 96))


def measure() -> Iterator[Row]:
    """Recall and precision of each kind of copy, in phantoms, in the images of BENCH_IMAGES, and in tables."""
    for kind, size in PHANTOMS:
        spec = PhantomSpec(kind=kind, size=size, patients=200, slices=(1, 3), seed=3)
        yield from _of_images(f"{kind} phantoms of {size} px", [one.pixels for one in generate(spec)])
    if given := os.environ.get("BENCH_IMAGES"):
        yield from _of_images(Path(given).name, list(_different(Path(given))))
    for name, values in _tables().items():
        yield from _of_rows(name, values)


def _different(folder: Path) -> Iterator[Pixels]:
    """Yield each picture below the folder once, however many files hold it."""
    seen = set()
    for file in files_of(folder):
        try:
            pixels = decode(Path(file).read_bytes()).pixels
        except RejectedInput:
            continue
        if (content := pixels.tobytes()) not in seen:
            seen.add(content)
            yield pixels


def _of_images(name: str, originals: list[Pixels]) -> Iterator[Row]:
    thumbnails = [summarize_image(pixels).thumbnail for pixels in originals]
    known = _found_in(thumbnails)
    rng = np.random.default_rng(1)
    for kind, change in KINDS.items():
        chosen = rng.permutation(len(originals))[:EACH].tolist()
        copies = [summarize_image(np.ascontiguousarray(change(originals[place]))).thumbnail for place in chosen]
        yield _row(f"{name}: {kind}", _found_in([*thumbnails, *copies]), known, _planted(chosen, len(originals)))


def _found_in(thumbnails: list[Pixels]) -> Pairs:
    zero = np.zeros(len(thumbnails), np.float32)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "thumbnails.u8"
        file.write_bytes(np.stack(thumbnails).tobytes())
        summaries = ImageSummaries(
            file=file, border=zero, histogram=zero, coloured=zero, marked=zero > 0, spread=zero, broken={}
        )
        return _sorted(near_duplicates(summaries, np.arange(len(thumbnails))).pairs)


def _tables() -> dict[str, pd.DataFrame]:
    from sklearn.datasets import load_breast_cancer

    rng = np.random.default_rng(0)
    numbers = {f"number {place}": np.exp(rng.normal(0, 0.5 * (place % 3), 2000)) for place in range(6)}
    mixed = pd.DataFrame({**numbers, "age": rng.normal(55, 12, 2000).round(), "cells": rng.poisson(4, 2000)})
    mixed = mixed.assign(side=rng.choice(["left", "right"], 2000), stage=rng.choice(["I", "II", "III"], 2000))
    scores = pd.DataFrame(rng.integers(1, 11, (2000, 25))).rename(columns=str)
    return {
        "Wisconsin table": load_breast_cancer(as_frame=True).data,
        "mixed table with gaps": mixed.mask(rng.random(mixed.shape) < 0.05),
        "25 integer scores": scores,
        "100,000 rows of 30 numbers": pd.DataFrame(rng.normal(size=(100_000, 30))).rename(columns=str),
    }


def _of_rows(name: str, values: pd.DataFrame) -> Iterator[Row]:
    known = _rows_found_in(values)
    rng = np.random.default_rng(1)
    for noise in NOISES:
        chosen = rng.permutation(len(values))[:EACH].tolist()
        copies = values.iloc[chosen].copy()
        for column in values.select_dtypes("number"):
            copies[column] = copies[column] + rng.normal(0, noise * values[column].std(), EACH)
        found = _rows_found_in(pd.concat([values, copies], ignore_index=True))
        yield _row(f"{name}: copied with noise of {noise:g} SD", found, known, _planted(chosen, len(values)))


def _rows_found_in(values: pd.DataFrame) -> Pairs:
    return _sorted(near_equal_rows(values, pd.Series([None] * len(values), dtype=object)))


def _sorted(pairs: NDArray[np.int64]) -> Pairs:
    return [(min(pair), max(pair)) for pair in pairs.tolist()]


def _planted(chosen: list[int], count: int) -> Pairs:
    return [(place, count + copy) for copy, place in enumerate(chosen)]


def _row(what: str, found: Pairs, known: Pairs, planted: Pairs) -> Row:
    """Count a pair as wrong unless what was planted, with the copies already there, makes its two one picture."""
    hits = len(set(found) & set(planted))
    group = component_numbers([*known, *planted], count=1 + max(max(pair) for pair in [*found, *planted]))
    wrong = sum(group[first] != group[second] for first, second in found)
    recall, precision = hits / len(planted), hits / max(hits + wrong, 1)
    return Row(
        what=what,
        found=f"{hits} of {len(planted)}, {wrong} wrong",
        wanted=f"{WANTED:.0%} of them, {WANTED:.0%} right",
        holds=recall >= WANTED and precision >= WANTED,
    )
