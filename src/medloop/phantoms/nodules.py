"""The tumours, which are the only difference between the classes of the chest phantoms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from medloop.phantoms.canvas import Canvas, Mask, Points, draw_waves, ellipse, wobble

_TUMOUR: Final = 45.0


@dataclass(frozen=True, kw_only=True)
class Tumour:
    """The position, size and margin of one patient's tumour."""

    x: float
    y: float
    radius: float
    waves: Points
    spicules: Points  # angle, reach in radii, width in radii
    hollow: Points  # x, y and size in radii of a cavity; size 0 is none
    halo: float

    def paint(self, canvas: Canvas, *, shrink: float, contrast: float) -> None:
        """Paint the tumour, smaller in slices that miss its centre."""
        radius = self.radius * shrink
        body = wobble(ellipse(self.x, self.y, radius, radius, count=64), self.waves)
        cover = canvas.mask(body, soft=0.006)
        if self.halo:
            glow = canvas.mask(ellipse(self.x, self.y, radius * 1.35, radius * 1.35), soft=radius * 0.3)
            cover = np.maximum(cover, glow * self.halo)
        if len(self.spicules):
            cover = np.maximum(cover, self._cover_spicules(canvas, radius))
        if self.hollow[2]:
            x, y, size = self.hollow * radius
            cover *= 1 - 0.9 * canvas.mask(ellipse(self.x + x, self.y + y, size, size * 0.8), soft=0.006)
        canvas.blend(np.minimum(cover, 1) * np.float32(contrast), _TUMOUR)

    def _cover_spicules(self, canvas: Canvas, radius: float) -> Mask:
        angle, reach, width = self.spicules.T
        way = np.column_stack([np.cos(angle), np.sin(angle)])
        ends = [
            np.stack([way * 0.5, way * (1 + (reach - 1) * share)[:, None]], axis=1) * radius + (self.x, self.y)
            for share in (0.4, 0.7, 1.0)
        ]
        widths = np.concatenate([width * radius * taper for taper in (1.0, 0.65, 0.35)])
        return canvas.segments(np.concatenate(ends), widths, np.full(len(widths), 0.95))


def _plain(rng: np.random.Generator, at: tuple[float, float], radius: float, amount: float, orders: int) -> Tumour:
    waves = draw_waves(rng, amount=amount, orders=orders)
    x, y = at
    return Tumour(x=x, y=y, radius=radius, waves=waves, spicules=np.zeros((0, 3)), hollow=np.zeros(3), halo=0.0)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The region in which a tumour may be placed: the fine grid of the lungs and both hila."""

    canvas: Canvas
    lungs: Mask
    hila: Points


def _place(rng: np.random.Generator, site: Site, score: Callable[[Points, Points], Points]) -> Points:
    """Return the best of many random places; `score` rates places by their distance from the lung's edge."""
    places = rng.uniform((-0.85, -0.75), (0.85, 0.75), (600, 2))
    depth = cv2.distanceTransform((site.lungs > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / site.canvas.pixels_of(1.0)
    column, row = np.rint(site.canvas.locate(places)).astype(int).clip(0, site.canvas.side - 1).T
    found = depth[row, column].astype(float)
    cost = score(places, found) + 10.0 * (found <= 0) + rng.uniform(0, 0.03, len(places))
    return np.asarray(places[np.argmin(cost)])


def _far(places: Points, hila: Points) -> Points:
    return np.asarray(np.linalg.norm(places[:, None] - hila, axis=2).min(axis=1))


def _adenocarcinoma(rng: np.random.Generator, site: Site) -> Tumour:
    radius = rng.uniform(0.065, 0.1)
    x, y = _place(rng, site, lambda at, depth: np.abs(depth - 1.4 * radius) + np.clip(0.36 - _far(at, site.hila), 0, 1))
    count = int(rng.integers(9, 15))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.normal(0, 0.15, count)
    spicules = np.column_stack([angle, rng.uniform(1.4, 2.3, count), rng.uniform(0.18, 0.32, count)])
    waves = draw_waves(rng, amount=0.07, orders=6)
    return Tumour(x=x, y=y, radius=radius, waves=waves, spicules=spicules, hollow=np.zeros(3), halo=0.3)


def _large_cell(rng: np.random.Generator, site: Site) -> Tumour:
    radius = rng.uniform(0.14, 0.2)
    x, y = _place(
        rng,
        site,
        lambda at, depth: np.clip(0.85 * radius - depth, 0, 1) + np.clip(0.1 + radius - _far(at, site.hila), 0, 1),
    )
    return _plain(rng, (x, y), radius, 0.05, 3)


def _squamous(rng: np.random.Generator, site: Site) -> Tumour:
    radius = rng.uniform(0.1, 0.15)
    side = int(rng.integers(2))
    out = radius * rng.uniform(0.3, 0.7) * (1 if side else -1)
    x, y = site.hila[side] + (out, rng.uniform(-0.05, 0.05))
    plain = _plain(rng, (float(x), float(y)), radius, 0.08, 6)
    size = rng.uniform(0.3, 0.5) * (rng.random() < 0.4)
    hollow = np.array([*rng.uniform(-0.25, 0.25, 2), size])
    return replace(plain, hollow=hollow)


_TUMOURS: Final = {"adenocarcinoma": _adenocarcinoma, "large_cell": _large_cell, "squamous": _squamous}


def draw_tumour(label: str, rng: np.random.Generator, *, site: Site) -> Tumour | None:
    """Draw the tumour of a class, independently of the anatomy; None for normal."""
    if label not in _TUMOURS:
        return None
    return _TUMOURS[label](rng, site)
