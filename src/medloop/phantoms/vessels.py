"""Grow a vessel tree for each lung in three dimensions, so that all slices of a patient show the same tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from medloop.phantoms.canvas import Points

_ROOTS: Final = 9
_GENERATIONS: Final = 8
_SLAB: Final = 0.04  # half the thickness of a slice, in body units


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Straight pieces of vessel: both ends (N,2,3) and the width (N)."""

    ends: Points
    widths: Points

    def cut(self, height: float) -> tuple[Points, Points, Points]:
        """Return the segments inside a slice: their ends in the plane, widths and the share of the slice they fill."""
        low, high = np.sort(self.ends[:, :, 2], axis=1).T
        reach = _SLAB + self.widths / 2
        inside = (high > height - reach) & (low < height + reach)
        ends, widths, reach = self.ends[inside], self.widths[inside], reach[inside]
        start, run = ends[:, 0], ends[:, 1] - ends[:, 0]
        rise = np.where(np.abs(run[:, 2]) < 1e-6, 1e-6, run[:, 2])
        cuts = np.sort([(height - reach - start[:, 2]) / rise, (height + reach - start[:, 2]) / rise], axis=0)
        enter, leave = cuts.clip(0, 1)
        plane = np.stack([start + run * enter[:, None], start + run * leave[:, None]], axis=1)
        return plane[:, :, :2], widths, np.minimum(1.0, 0.55 + widths / (2 * _SLAB))


def grow_tree(rng: np.random.Generator, *, x: float, y: float, side: int, reach: float, width: float) -> Tree:
    """Grow a tree from the hilum outwards, each vessel splitting into two thinner ones."""
    tips = np.tile([x, y, 0.0], (_ROOTS, 1)) + rng.normal(0, 0.03, (_ROOTS, 3))
    fan = np.linspace(-1.25, 1.25, _ROOTS) + rng.normal(0, 0.15, _ROOTS)
    ways = np.column_stack(
        [side * np.cos(fan), np.sin(fan), rng.permutation(np.linspace(-1.6, 1.6, _ROOTS)) + rng.normal(0, 0.2, _ROOTS)]
    )
    widths = width * rng.uniform(0.7, 1.1, _ROOTS)
    lengths = reach * rng.uniform(0.22, 0.34, _ROOTS)
    ends, thick = [], []
    for _ in range(_GENERATIONS):
        ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
        middle = tips + ways * lengths[:, None] / 2 + rng.normal(0, 0.06, tips.shape) * lengths[:, None]
        after = tips + ways * lengths[:, None]
        ends += [np.stack([tips, middle], axis=1), np.stack([middle, after], axis=1)]
        thick += [widths, widths * 0.92]
        bend = rng.normal(0, 0.55, ways.shape)
        ways = np.concatenate([ways + bend, ways - bend * rng.uniform(0.4, 1.0, (len(ways), 1))])
        tips = np.concatenate([after, after])
        share = rng.uniform(0.58, 0.8, len(widths))
        widths = np.concatenate([widths * share, widths * (1.34 - share)])
        lengths = np.concatenate([lengths, lengths]) * rng.uniform(0.65, 0.95, 2 * len(lengths))
    return Tree(ends=np.concatenate(ends), widths=np.concatenate(thick))
