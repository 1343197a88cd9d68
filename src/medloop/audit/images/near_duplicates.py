"""Near duplicates: a hash finds pairs that may show one image, and a comparison of the aligned images decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.audit.images.features import SIDE, Floats, ImageSummaries, Pixels
from medloop.audit.images.orientations import CHANGES, COSETS, Places, orient, spectra_of_cosets

Numbers = NDArray[np.float64]
PairFilter = Callable[[Places, Places], NDArray[np.bool_]]

# The hash, tuned on phantoms of 64 to 256 pixels, chest CT and Medical MNIST with planted copies: a copy lies within
# 0.3 of its original (in standard deviations per dimension), images of other patients rarely do.
RADIUS, DIMENSIONS, REACH = 6, 24, 0.35
TABLES, CELL, MAX_NEIGHBOURS, MAX_CANDIDATES = 16, 2.0, 64, 6
SAMPLE = 5000

# The thresholds, on differences in the band from 1 to 3 pixels. Copies differ by at most 0.0026 (JPEG at quality 50,
# shifts of one pixel), other slices of the same phantom by at least 0.0041. Without the worst sixth of the blocks,
# which may contain annotations: 0.0010 and 0.0022. JPEG changes low-contrast images more, but rarely by half a grey
# level.
MAX_DIFFERENCE, MAX_DIFFERENCE_ELSEWHERE, MAX_DIFFERENCE_PALE, MAX_GREY_LEVELS = 0.0035, 0.0015, 0.06, 0.55
BAND, ALIGN_BAND = (1.0, 3.0), (0.6, 2.0)
EDGE, BLOCK = 4, 8
STEPS = np.arange(-2.5, 2.51, 0.25)


@dataclass(frozen=True)
class Difference:
    """The difference of aligned images: overall, outside the worst blocks, in grey levels; and whether inverted."""

    whole: Numbers
    elsewhere: Numbers
    grey_levels: Numbers
    inverted: NDArray[np.bool_]

    def same(self) -> NDArray[np.bool_]:
        """Return which pairs show one image."""
        pale = (self.whole <= MAX_DIFFERENCE_PALE) & (self.grey_levels <= MAX_GREY_LEVELS)
        return (self.whole <= MAX_DIFFERENCE) | (self.elsewhere <= MAX_DIFFERENCE_ELSEWHERE) | pale


@dataclass(frozen=True)
class Matches:
    """Pairs of places that show one image, and how the second is oriented and inverted relative to the first."""

    pairs: Places
    orientations: Places
    inverted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pairs)

    @classmethod
    def none(cls) -> Matches:
        """Return no pairs."""
        return cls(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0, bool))

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        """Join the parts; a pair in several of them is taken from the first."""
        whole = [cls.none(), *parts]
        pairs = np.concatenate([part.pairs for part in whole])
        _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
        orientations = np.concatenate([part.orientations for part in whole])
        return cls(pairs[first], orientations[first], np.concatenate([part.inverted for part in whole])[first])

    def changes(self) -> list[str]:
        """Describe how each second image is stored: '' where it is upright and not inverted."""
        descriptions = []
        for orientation, inverted in zip(self.orientations.tolist(), self.inverted.tolist(), strict=True):
            parts = [CHANGES[orientation]] * (orientation != 0) + ["inverted"] * inverted
            descriptions.append(" and ".join(parts))
        return descriptions


def near_duplicates(summaries: ImageSummaries, places: Places, *, seed: int = 0) -> Matches:
    """Return the pairs among these places that show one image, in any contrast and orientation, with small shifts."""
    if len(places) < 2:
        return Matches.none()
    pairs, cosets = _candidates(_embedding(summaries, places), seed=seed)
    found = []
    for coset, orientations in enumerate(COSETS):
        mine = places[pairs[cosets == coset]]
        chunks = (mine[start : start + 256] for start in range(0, len(mine), 256))
        found += [_matches(summaries, chunk, orientations) for chunk in chunks]
    return Matches.joined(found)


def _matches(summaries: ImageSummaries, pairs: Places, orientations: Sequence[int]) -> Matches:
    """Return which of the pairs show one image, with the second in one of these orientations."""
    first, second = (summaries.thumbnails(pairs[:, side]) for side in (0, 1))
    found = []
    for orientation in orientations:
        compared = difference(first, orient(second, orientation))
        same = compared.same()
        found.append(Matches(pairs[same], np.full(same.sum(), orientation), compared.inverted[same]))
    return Matches.joined(found)


def _candidates(codes: Floats, *, seed: int) -> tuple[Places, Places]:
    """Return pairs that may show one image, and the coset of orientations in which the second must be compared."""
    count = codes.shape[1]

    def upright_and_other(left: Places, right: Places) -> NDArray[np.bool_]:
        return np.asarray(((left < count) != (right < count)) & (left % count != right % count))

    upright = candidate_pairs(codes[0], seed=seed)
    # Each of these pairs can be found twice, with either image rotated, so fewer tables suffice.
    other = candidate_pairs(codes.reshape(-1, codes.shape[2]), seed=seed, tables=TABLES // 4, keep=upright_and_other)
    pairs = np.concatenate([upright, other])
    return pairs % count, pairs[:, 1] // count


def _embedding(summaries: ImageSummaries, places: Places) -> Floats:
    """Return whitened principal components of the hash, once for each coset of orientations."""
    sample = np.sort(np.random.default_rng(0).permutation(places)[:SAMPLE])
    known = np.concatenate([spectrum(images) for _, images in summaries.chunks(sample)])
    mean = known.mean(axis=0)
    _, sizes, axes = np.linalg.svd(known - mean, full_matrices=False)
    kept = min(DIMENSIONS, int((sizes > 1e-3 * sizes[0]).sum()), len(known) - 1) or 1
    whiten = axes[:kept].T / np.maximum(sizes[:kept] / np.sqrt(len(known)), 1e-6)
    sources = spectra_of_cosets(*_coarse_frequencies())
    spectra = (spectrum(images) for _, images in summaries.chunks(places))
    codes = [np.stack([(one[:, source] - mean) @ whiten for source in sources]) for one in spectra]
    return np.concatenate(codes, axis=1)


def spectrum(images: Pixels) -> Floats:
    """Return the magnitudes of the coarse structures of each image, which contrast and small shifts do not change."""
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    grey = images.astype(np.float32)
    strength = np.abs(np.fft.rfft2((grey - grey.mean((1, 2), keepdims=True)) * window))
    coarse = np.sqrt(strength[:, *_coarse_frequencies()])
    return np.asarray(coarse / (np.linalg.norm(coarse, axis=1, keepdims=True) + 1e-9), np.float32)


def _coarse_frequencies() -> tuple[Places, Places]:
    """Return the rows and columns of the frequencies that the hash keeps."""
    rows, columns = np.mgrid[-RADIUS : RADIUS + 1, 0 : RADIUS + 1]
    distance = np.hypot(rows, columns)
    # Each frequency once: in the first column the negative rows repeat the positive ones.
    kept = (distance <= RADIUS) & ((columns > 0) | (rows > 0))
    return rows[kept], columns[kept]


def candidate_pairs(codes: Floats, *, seed: int = 0, tables: int = TABLES, keep: PairFilter | None = None) -> Places:
    """Return pairs that are close in the embedding, found by hashing in time linear in the number of codes."""
    rng = np.random.default_rng(seed)
    # Enough projections to keep the size of the buckets constant as the number of codes grows.
    width = int(np.clip(round(np.log2(len(codes))) - 6, 2, 16))
    keys: list[Places] = []
    gaps: list[Floats] = []
    for _ in range(tables):
        for key, gap in _pairs_of_one_table(codes, width, rng, keep):
            keys.append(key)
            gaps.append(gap)
    if not keys:
        return np.empty((0, 2), np.int64)
    joined, first = np.unique(np.concatenate(keys), return_index=True)
    pairs = np.stack([joined // len(codes), joined % len(codes)], axis=1)
    return _nearest(pairs, np.concatenate(gaps)[first], len(codes))


def _pairs_of_one_table(
    codes: Floats, width: int, rng: np.random.Generator, keep: PairFilter | None
) -> Iterator[tuple[Places, Floats]]:
    directions = rng.normal(size=(codes.shape[1], width + 1))
    directions /= np.linalg.norm(directions, axis=0)
    projected = codes @ directions.astype(np.float32)
    cells = np.floor(projected[:, :width] / CELL + rng.uniform(size=width)).astype(np.int64)
    bucket = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((projected[:, width], bucket))
    bucket = bucket[order]
    for step in range(1, min(MAX_NEIGHBOURS, len(codes) - 1) + 1):
        together = np.flatnonzero(bucket[:-step] == bucket[step:])
        if not together.size:
            return
        left, right = order[together], order[together + step]
        if keep is not None:
            chosen = keep(left, right)
            left, right = left[chosen], right[chosen]
        gap = _gaps(codes, left, right)
        close = gap <= REACH
        low, high = np.minimum(left, right)[close], np.maximum(left, right)[close]
        yield low * len(codes) + high, gap[close]


def _gaps(codes: Floats, left: Places, right: Places) -> Floats:
    parts = [
        np.sqrt(((codes[left[start : start + 65_536]] - codes[right[start : start + 65_536]]) ** 2).mean(axis=1))
        for start in range(0, len(left), 65_536)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _nearest(pairs: Places, gaps: Floats, count: int) -> Places:
    """Return only the closest candidates of each place: a copy is among them, and the work stays bounded."""
    kept = np.zeros(len(pairs), bool)
    for side in (0, 1):
        order = np.lexsort((gaps, pairs[:, side]))
        starts = np.searchsorted(pairs[order, side], np.arange(count))
        kept[order[np.arange(len(order)) - starts[pairs[order, side]] < MAX_CANDIDATES]] = True
    return pairs[kept]


def difference(first: Pixels, second: Pixels) -> Difference:
    """Compare images pair by pair, after aligning the second with the first."""
    rows, columns, sign = _offsets(_band(first, ALIGN_BAND), _band(second, ALIGN_BAND))
    left, right = _band(first, BAND), sign[:, None, None] * _shift(_band(second, BAND), rows, columns)
    inner = slice(EDGE, SIDE - EDGE)
    left, right = _center(left[:, inner, inner]), _center(right[:, inner, inner])
    energies = (left**2).sum((1, 2)), (right**2).sum((1, 2))
    whole = 1 - (left * right).sum((1, 2)) / np.sqrt(energies[0] * energies[1] + 1e-6)
    size = left.shape[1] * left.shape[2]
    grey_levels = np.sqrt(np.maximum(whole, 0) * np.maximum(*energies) * 2 / size)
    return Difference(whole, _outside_worst_blocks(left, right), grey_levels, sign < 0)


def _band(images: Pixels, band: tuple[float, float]) -> Numbers:
    fine, coarse = band
    grey = images.astype(np.float32)
    return np.stack([cv2.GaussianBlur(one, (0, 0), fine) - cv2.GaussianBlur(one, (0, 0), coarse) for one in grey])


def _center(images: Numbers) -> Numbers:
    return np.asarray(images - images.mean((1, 2), keepdims=True))


def _offsets(first: Numbers, second: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the shift, in quarters of a pixel, at which the two agree best, and -1 where one is inverted."""
    soft = np.minimum(1, (np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) + 0.5) / 6)
    window = soft[:, None] * soft
    product = np.fft.rfft2(first * window) * np.fft.rfft2(second * window).conj()
    weight = np.full(SIDE // 2 + 1, 2.0)
    weight[[0, -1]] = 1
    by_row = np.exp(2j * np.pi * STEPS[:, None] * np.fft.fftfreq(SIDE))
    by_column = np.exp(2j * np.pi * np.fft.rfftfreq(SIDE)[:, None] * STEPS) * weight[:, None]
    agreement = np.real(by_row @ product @ by_column).reshape(len(first), -1)
    best = np.abs(agreement).argmax(axis=1)
    sign = np.where(np.take_along_axis(agreement, best[:, None], axis=1)[:, 0] < 0, -1.0, 1.0)
    return STEPS[best // len(STEPS)], STEPS[best % len(STEPS)], sign


def _shift(images: Numbers, rows: Numbers, columns: Numbers) -> Numbers:
    turn = rows[:, None, None] * np.fft.fftfreq(SIDE)[:, None] + columns[:, None, None] * np.fft.rfftfreq(SIDE)
    return np.asarray(np.fft.irfft2(np.fft.rfft2(images) * np.exp(-2j * np.pi * turn), s=(SIDE, SIDE)))


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
