"""Draw in body units (-1 .. 1, y down) on a finer grid than the picture, so that edges are smooth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from medloop.phantoms.spec import Nodule, Values

Points = NDArray[np.float64]
Mask = NDArray[np.float32]
_FINE: Final = 256
_SHIFT: Final = 4


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The position of the body in the picture."""

    dx: float = 0.0
    dy: float = 0.0
    turn: float = 0.0
    scale: float = 1.0

    def place(self, points: Points) -> Points:
        """Move body points to where they lie in the picture, still in units."""
        c, s = np.cos(self.turn) * self.scale, np.sin(self.turn) * self.scale
        return shifted(points @ np.array([[c, s], [-s, c]]), self.dx, self.dy)


class Canvas:
    """A fine grid of values with the few strokes that anatomy needs."""

    def __init__(self, *, size: int, background: float, pose: Pose | None = None) -> None:
        self.size = size
        self.factor = max(1, -(-_FINE // size))
        self.side = size * self.factor
        self.pose = pose or Pose()
        self.values: Values = np.full((self.side, self.side), background, np.float32)

    def pixels_of(self, units: float) -> float:
        """Convert a length from body units to the fine grid."""
        return units * self.pose.scale * self.side / 2

    def locate(self, points: Points) -> Points:
        """Convert points to positions on the fine grid."""
        return (self.pose.place(points) + 1) * (self.side / 2) - 0.5

    def nodule_at(self, *, x: float, y: float, radius: float) -> Nodule:
        """Convert a nodule from body units to pixels of the finished picture."""
        px, py = (self.pose.place(np.array([[x, y]]))[0] + 1) * (self.size / 2) - 0.5
        return Nodule(x=float(px), y=float(py), radius=radius * self.pose.scale * self.size / 2)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        return np.rint(self.locate(points) * (1 << _SHIFT)).astype(np.int32)

    def fill(self, points: Points, value: float) -> None:
        """Paint a closed contour."""
        cv2.fillPoly(self.values, [self._fixed(points)], value, shift=_SHIFT)

    def stroke(self, points: Points, value: float, *, width: float, closed: bool = False) -> None:
        """Paint a line."""
        thickness = max(1, round(self.pixels_of(width)))
        cv2.polylines(self.values, [self._fixed(points)], closed, value, thickness, shift=_SHIFT)

    def mask(self, *contours: Points, soft: float = 0.0) -> Mask:
        """Return the coverage 0 .. 1 of closed contours, with a soft edge of this width."""
        grid = np.zeros((self.side, self.side), np.uint8)
        for contour in contours:
            cv2.fillPoly(grid, [self._fixed(contour)], 255, cv2.LINE_AA, _SHIFT)
        covered = _coverage(grid)
        return self.soften(covered, soft) if soft else covered

    def soften(self, grid: Mask, units: float) -> Mask:
        """Blur by a length in body units."""
        return cv2.GaussianBlur(grid, (0, 0), max(0.3, self.pixels_of(units))).astype(np.float32, copy=False)

    def blend(self, mask: Mask, value: float | Values) -> None:
        """Lay a value over the picture where the mask covers it."""
        self.values += (value - self.values) * mask

    def segments(self, ends: Points, widths: Points, levels: Points) -> Mask:
        """Return the coverage of many lines (N,2,2), the strongest on top."""
        grid = np.zeros((self.side, self.side), np.uint8)
        fixed = self._fixed(ends.reshape(-1, 2)).reshape(-1, 2, 2)
        breadth = widths * self.pixels_of(1.0)
        # A line thinner than the grid is drawn fainter instead.
        shades = np.rint(255 * levels * np.minimum(1.0, breadth)).astype(int)
        thick = np.maximum(1, np.rint(breadth)).astype(int)
        for i in np.argsort(shades, kind="stable").tolist():
            start, end = fixed[i].tolist()
            cv2.line(grid, start, end, int(shades[i]), int(thick[i]), cv2.LINE_AA, _SHIFT)
        return _coverage(grid)

    def field(self, rng: np.random.Generator, *, cells: int, amount: float) -> Values:
        """Return a smooth random texture."""
        coarse = rng.normal(0.0, amount, (cells, cells)).astype(np.float32)
        return cv2.resize(coarse, (self.side, self.side), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)

    def finish(self, rng: np.random.Generator, *, noise: float, blur: float = 0.008) -> Values:
        """Return the picture at its size in integer values, with the blur and noise of a scanner."""
        sharp = self.soften(self.values, blur)
        small = cv2.resize(sharp, (self.size, self.size), interpolation=cv2.INTER_AREA)
        grain = cv2.GaussianBlur(rng.standard_normal((self.size, self.size), dtype=np.float32), (0, 0), 0.6)
        return np.asarray(np.rint(small + grain * (noise / 0.5)), np.float32)


def _coverage(grid: NDArray[np.uint8]) -> Mask:
    return np.asarray(grid, np.float32) / np.float32(255)


def shifted(points: Points, dx: float, dy: float) -> Points:
    """Return the contour, shifted."""
    return np.asarray(points + np.array([dx, dy]))


def ellipse(
    x: float, y: float, rx: float, ry: float, *, turn: float = 0.0, power: float = 1.0, count: int = 48
) -> Points:
    """Return the contour of an ellipse; a power below 1 makes it boxier."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    px, py = rx * np.sign(c) * np.abs(c) ** power, ry * np.sign(s) * np.abs(s) ** power
    return np.column_stack([x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)])


def wobble(points: Points, waves: Points) -> Points:
    """Bend a contour about its centre by waves (rows of amount and phase, from two per turn upwards)."""
    centre = points.mean(axis=0)
    angle = np.arctan2(*(points - centre).T[::-1])
    orders = np.arange(2, 2 + len(waves))
    reach = 1 + (waves[:, 0] * np.cos(np.outer(angle, orders) + waves[:, 1])).sum(axis=1)
    return np.asarray(centre + (points - centre) * reach[:, None])


def draw_waves(rng: np.random.Generator, *, amount: float, orders: int = 4) -> Points:
    """Draw random waves for `wobble`; finer waves are weaker."""
    fall = amount / np.sqrt(np.arange(1, orders + 1))
    return np.column_stack([rng.normal(0.0, fall), rng.uniform(0, 2 * np.pi, orders)])


def mirror(points: Points) -> Points:
    """Mirror points to the other side of the body."""
    return points * (-1.0, 1.0)
