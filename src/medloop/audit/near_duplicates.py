"""Near duplicates: a hash finds pairs that may be one picture, and a comparison of the aligned pictures decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.audit.features import SIDE, Floats, Looks, Pixels

Places = NDArray[np.int64]
Numbers = NDArray[np.float64]

# The hash. Chosen on phantoms of 64 to 256 pixels, on chest CT and on Medical MNIST with planted copies: a copy lies
# within 0.3 of its original (in standard deviations a dimension), other patients seldom do.
RADIUS, DIMENSIONS, REACH = 6, 24, 0.35
TABLES, CELL, IN_BUCKET, CANDIDATES = 16, 2.0, 64, 6
SAMPLE = 5000

# The verdict, on differences in the band from 1 to 3 pixels. Copies: at most 0.0026 (JPEG at quality 50, shifts of one
# pixel), other slices of the same phantom: at least 0.0041. Without the worst sixth of the blocks, where someone may
# have drawn: 0.0010 against 0.0022. Pale pictures suffer more from JPEG, but seldom by half a grey level.
UNLIKE, UNLIKE_ELSEWHERE, UNLIKE_PALE, GREY_LEVELS = 0.0035, 0.0015, 0.06, 0.55
BAND, ALIGN_BAND = (1.0, 3.0), (0.6, 2.0)
EDGE, BLOCK = 4, 8
STEPS = np.arange(-2.5, 2.51, 0.25)


@dataclass(frozen=True)
class Unlikeness:
    """How far two aligned pictures differ: at all, outside the worst blocks, and in grey levels."""

    whole: Numbers
    elsewhere: Numbers
    grey_levels: Numbers

    def same(self) -> NDArray[np.bool_]:
        """Which pairs are one picture."""
        pale = (self.whole <= UNLIKE_PALE) & (self.grey_levels <= GREY_LEVELS)
        return (self.whole <= UNLIKE) | (self.elsewhere <= UNLIKE_ELSEWHERE) | pale


def near_duplicates(looks: Looks, places: Places, *, seed: int = 0) -> Places:
    """The pairs among these places that show one picture, in any contrast and shifted by at most two pixels."""
    if len(places) < 2:
        return np.empty((0, 2), np.int64)
    codes = _embedding(looks, places)
    found = []
    pairs = candidate_pairs(codes, seed=seed)
    for start in range(0, len(pairs), 256):
        some = pairs[start : start + 256]
        first, second = (looks.thumbnails(places[some[:, side]]) for side in (0, 1))
        found.append(some[unlikeness(first, second).same()])
    return np.asarray(places[np.concatenate(found)] if found else np.empty((0, 2)), np.int64)


def _embedding(looks: Looks, places: Places) -> Floats:
    """Whitened principal components of the hash, those of the picture that a shift leaves alone."""
    sample = np.sort(np.random.default_rng(0).permutation(places)[:SAMPLE])
    known = np.concatenate([spectrum(pictures) for _, pictures in looks.chunks(sample)])
    mean = known.mean(axis=0)
    _, sizes, axes = np.linalg.svd(known - mean, full_matrices=False)
    kept = min(DIMENSIONS, int((sizes > 1e-3 * sizes[0]).sum()), len(known) - 1) or 1
    whiten = axes[:kept].T / np.maximum(sizes[:kept] / np.sqrt(len(known)), 1e-6)
    return np.concatenate([(spectrum(pictures) - mean) @ whiten for _, pictures in looks.chunks(places)])


def spectrum(pictures: Pixels) -> Floats:
    """The strength of the coarse structures of each picture, whatever its contrast and small shifts."""
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    grey = pictures.astype(np.float32)
    strength = np.abs(np.fft.rfft2((grey - grey.mean((1, 2), keepdims=True)) * window))
    distance = np.hypot((np.fft.fftfreq(SIDE) * SIDE)[:, None], np.arange(SIDE // 2 + 1))
    coarse = np.sqrt(strength[:, (distance > 0) & (distance <= RADIUS)])
    return np.asarray(coarse / (np.linalg.norm(coarse, axis=1, keepdims=True) + 1e-9), np.float32)


def candidate_pairs(codes: Floats, *, seed: int = 0) -> Places:
    """Pairs close in the embedding, found by hashing: the work grows with the number of codes, not with its square."""
    rng = np.random.default_rng(seed)
    # As many projections as keep the buckets equally full, however many codes there are.
    width = int(np.clip(round(np.log2(len(codes))) - 6, 2, 16))
    keys: list[Places] = []
    gaps: list[Floats] = []
    for _ in range(TABLES):
        for key, gap in _pairs_of_one_table(codes, width, rng):
            keys.append(key)
            gaps.append(gap)
    joined, first = np.unique(np.concatenate(keys), return_index=True)
    pairs = np.stack([joined // len(codes), joined % len(codes)], axis=1)
    return _nearest(pairs, np.concatenate(gaps)[first], len(codes))


def _pairs_of_one_table(codes: Floats, width: int, rng: np.random.Generator) -> Iterator[tuple[Places, Floats]]:
    directions = rng.normal(size=(codes.shape[1], width + 1))
    directions /= np.linalg.norm(directions, axis=0)
    projected = codes @ directions.astype(np.float32)
    cells = np.floor(projected[:, :width] / CELL + rng.uniform(size=width)).astype(np.int64)
    bucket = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((projected[:, width], bucket))
    bucket = bucket[order]
    for step in range(1, min(IN_BUCKET, len(codes) - 1) + 1):
        together = np.flatnonzero(bucket[:-step] == bucket[step:])
        if not together.size:
            return
        left, right = order[together], order[together + step]
        gap = _gaps(codes, left, right)
        close = gap <= REACH
        low, high = np.minimum(left, right)[close], np.maximum(left, right)[close]
        yield low * len(codes) + high, gap[close]


def _gaps(codes: Floats, left: Places, right: Places) -> Floats:
    parts = [
        np.sqrt(((codes[left[start : start + 65536]] - codes[right[start : start + 65536]]) ** 2).mean(axis=1))
        for start in range(0, len(left), 65536)
    ]
    return np.concatenate(parts)


def _nearest(pairs: Places, gaps: Floats, count: int) -> Places:
    """Only the closest candidates of each: a copy is among them, and the work stays bounded."""
    kept = np.zeros(len(pairs), bool)
    for side in (0, 1):
        order = np.lexsort((gaps, pairs[:, side]))
        starts = np.searchsorted(pairs[order, side], np.arange(count))
        kept[order[np.arange(len(order)) - starts[pairs[order, side]] < CANDIDATES]] = True
    return pairs[kept]


def unlikeness(first: Pixels, second: Pixels) -> Unlikeness:
    """Compare pictures pair by pair, after the second was moved onto the first."""
    rows, columns = _offsets(_band(first, ALIGN_BAND), _band(second, ALIGN_BAND))
    left, right = _band(first, BAND), _moved(_band(second, BAND), rows, columns)
    inner = slice(EDGE, SIDE - EDGE)
    left, right = _levelled(left[:, inner, inner]), _levelled(right[:, inner, inner])
    energies = (left**2).sum((1, 2)), (right**2).sum((1, 2))
    whole = 1 - (left * right).sum((1, 2)) / np.sqrt(energies[0] * energies[1] + 1e-6)
    size = left.shape[1] * left.shape[2]
    grey_levels = np.sqrt(np.maximum(whole, 0) * np.maximum(*energies) * 2 / size)
    return Unlikeness(whole, _outside_worst_blocks(left, right), grey_levels)


def _band(pictures: Pixels, band: tuple[float, float]) -> Numbers:
    fine, coarse = band
    grey = pictures.astype(np.float32)
    return np.stack([cv2.GaussianBlur(one, (0, 0), fine) - cv2.GaussianBlur(one, (0, 0), coarse) for one in grey])


def _levelled(pictures: Numbers) -> Numbers:
    return np.asarray(pictures - pictures.mean((1, 2), keepdims=True))


def _offsets(first: Numbers, second: Numbers) -> tuple[Numbers, Numbers]:
    """The move, in quarters of a pixel, after which the two agree best."""
    soft = np.minimum(1, (np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) + 0.5) / 6)
    window = soft[:, None] * soft
    product = np.fft.rfft2(first * window) * np.fft.rfft2(second * window).conj()
    weight = np.full(SIDE // 2 + 1, 2.0)
    weight[[0, -1]] = 1
    by_row = np.exp(2j * np.pi * STEPS[:, None] * np.fft.fftfreq(SIDE))
    by_column = np.exp(2j * np.pi * np.fft.rfftfreq(SIDE)[:, None] * STEPS) * weight[:, None]
    best = np.real(by_row @ product @ by_column).reshape(len(first), -1).argmax(axis=1)
    return STEPS[best // len(STEPS)], STEPS[best % len(STEPS)]


def _moved(pictures: Numbers, rows: Numbers, columns: Numbers) -> Numbers:
    turn = rows[:, None, None] * np.fft.fftfreq(SIDE)[:, None] + columns[:, None, None] * np.fft.rfftfreq(SIDE)
    return np.asarray(np.fft.irfft2(np.fft.rfft2(pictures) * np.exp(-2j * np.pi * turn), s=(SIDE, SIDE)))


def _outside_worst_blocks(left: Numbers, right: Numbers) -> Numbers:
    across = left.shape[1] // BLOCK
    kept = round(0.85 * across * across)

    def blocks(values: Numbers) -> Numbers:
        return np.asarray(
            values.reshape(len(values), across, BLOCK, across, BLOCK).sum((2, 4)).reshape(len(values), -1)
        )

    gain = np.sqrt((left**2).sum((1, 2)) / ((right**2).sum((1, 2)) + 1e-9))
    products, lefts, rights = blocks(left * right), blocks(left**2), blocks(right**2)
    together = lefts_kept = rights_kept = np.ones(len(left))
    for _ in range(3):
        wrong = lefts - 2 * gain[:, None] * products + gain[:, None] ** 2 * rights
        best = np.argsort(wrong, axis=1)[:, :kept]
        together, lefts_kept, rights_kept = (
            np.take_along_axis(values, best, axis=1).sum(axis=1) for values in (products, lefts, rights)
        )
        gain = together / (rights_kept + 1e-9)
    return np.asarray(1 - together / np.sqrt(lefts_kept * rights_kept + 1e-6))
