"""Paint a slice through a synthetic chest in Hounsfield units, independent of the patient's class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from medloop.phantoms.canvas import Canvas, Mask, Points, Pose, draw_waves, ellipse, mirror, shifted, wobble
from medloop.phantoms.vessels import Tree, grow_tree

AIR: Final = -1000.0
FAT: Final = -115.0
MUSCLE: Final = 55.0
MARROW: Final = 190.0
CORTEX: Final = 620.0


@dataclass(frozen=True, kw_only=True)
class Chest:
    """The anatomy of one patient's chest."""

    width: float
    depth: float
    fat: float
    breast: float
    waves: Points
    cavity: Points  # half width, half depth, centre y
    heart: float
    lean: float
    blood: float
    lung: float
    spine: float
    rib_phase: float
    height: float
    step: float
    pose: Pose
    trees: tuple[Tree, Tree]

    @property
    def body(self) -> Points:
        """Return the contour of the skin, including the breasts."""
        outline = wobble(ellipse(0, 0, self.width, self.depth, power=0.82, count=96), self.waves)
        angle = np.arctan2(outline[:, 1] / self.depth, outline[:, 0] / self.width)
        bumps = sum(np.exp(-(((angle - at) / 0.3) ** 2)) for at in (-0.95, -np.pi + 0.95))
        flat = np.where(outline[:, 1:] > 0, 0.93, 1.0)
        swollen = outline * (1 + self.breast * np.asarray(bumps)[:, None])
        return np.asarray(swollen * np.hstack([np.ones_like(flat), flat]))

    @property
    def thorax(self) -> Points:
        """Return the contour of the inside of the rib cage, narrower in front."""
        half_width, half_depth, y = self.cavity
        shape = ellipse(0, 0, half_width, half_depth, power=0.9, count=96)
        taper = 1 - 0.2 * np.clip(-shape[:, 1] / half_depth, 0, 1) ** 2
        shape = wobble(shape * np.column_stack([taper, np.ones_like(taper)]), self.waves[::-1] * (0.6, 1))
        return shifted(shape, 0, y)

    def levels(self, count: int) -> list[float]:
        """Return the levels of the patient's slices between aortic arch (0) and heart (1)."""
        span = min(1.0, self.step * (count - 1))
        start = self.height * (1 - span)
        return [float(level) for level in np.linspace(start, start + span, count)]

    def hilum(self, side: int, level: float) -> Points:
        """Return the point where vessels and bronchi enter the lung on one side (-1 is the patient's right)."""
        _, half_depth, y = self.cavity
        return np.array([side * (self._border(side, level, 0.08) + 0.02), y + 0.08 * half_depth])

    def _border(self, side: int, level: float, u: Points | float) -> Points:
        """Return the extent of the mediastinum to one side, at u from sternum (-1) to back (1)."""
        u = np.asarray(u, float)
        heart = np.interp(level, [0.0, 0.45, 1.0], [0.10, 0.13, 0.17] if side < 0 else [0.11, 0.17, 0.40]) * self.heart
        centre = np.interp(level, [0.0, 1.0], [-0.15, -0.22 if side > 0 else -0.12])
        bulge = heart * np.exp(-(np.abs((u - centre) / np.interp(level, [0, 1], [0.42, 0.5])) ** 2.6))
        spine = self.spine * 1.0 / (1 + np.exp(-(u - 0.52) / 0.05)) * (1 + 0.9 * np.clip(u - 0.85, 0, 1) / 0.25)
        aorta = 0.15 * np.exp(-(((u - 0.42) / 0.17) ** 2)) * (side > 0)
        return np.asarray(0.03 + np.maximum(bulge + spine, aorta) + side * self.lean * np.exp(-((u / 0.6) ** 2)))

    def mediastinum(self, level: float) -> Points:
        """Return the contour of the mediastinum, from sternum to spine."""
        _, half_depth, y = self.cavity
        u = np.linspace(-1.15, 1.15, 60)
        right = np.column_stack([-self._border(-1, level, u), y + u * half_depth])
        left = np.column_stack([self._border(1, level, u), y + u * half_depth])
        return np.concatenate([right, left[::-1]])


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw one patient's anatomy."""
    width = rng.uniform(0.80, 0.95)
    depth = width * rng.uniform(0.74, 0.90)
    fat = rng.uniform(0.035, 0.12)
    half_width = width - fat - rng.uniform(0.13, 0.19)
    half_depth = depth - fat * 0.7 - rng.uniform(0.10, 0.14)
    y = rng.uniform(-0.045, -0.005)
    vessel = rng.uniform(0.03, 0.04)
    trees = [
        grow_tree(rng, x=side * rng.uniform(0.17, 0.22), y=y + 0.04, side=side, reach=half_width, width=vessel)
        for side in (-1, 1)
    ]
    return Chest(
        width=width,
        depth=depth,
        fat=fat,
        breast=rng.uniform(0.03, 0.14) * (rng.random() < 0.5),
        waves=draw_waves(rng, amount=0.016),
        cavity=np.array([half_width, half_depth, y]),
        heart=rng.uniform(0.8, 1.2),
        lean=rng.normal(0, 0.015),
        blood=rng.uniform(50, 260),
        lung=rng.uniform(-890, -820),
        spine=rng.uniform(0.10, 0.13),
        rib_phase=rng.uniform(0, 1),
        height=rng.uniform(0, 1),
        step=rng.uniform(0.08, 0.12),
        pose=Pose(
            dx=rng.uniform(-0.05, 0.05),
            dy=rng.uniform(-0.07, 0.07),
            turn=rng.normal(0, 0.06),
            scale=rng.uniform(0.86, 1.03),
        ),
        trees=(trees[0], trees[1]),
    )


def paint_chest(canvas: Canvas, chest: Chest, *, level: float, rng: np.random.Generator) -> Mask:
    """Paint the slice at a level (0 aortic arch .. 1 heart) and return where the lungs are."""
    _paint_table(canvas, chest)
    _paint_wall(canvas, chest, level=level)
    middle = canvas.mask(chest.mediastinum(level), soft=0.006)
    lungs = canvas.mask(chest.thorax, soft=0.006) * (1 - middle)
    lungs = np.asarray(np.clip((canvas.soften(lungs, 0.03) - 0.5) * 4 + 0.5, 0, 1), np.float32)
    _paint_mediastinum(canvas, chest, level=level)
    _paint_spine(canvas, chest)
    _paint_lungs(canvas, chest, lungs=lungs, level=level, rng=rng)
    _paint_ribs(canvas, chest, level=level)
    return lungs


def _paint_table(canvas: Canvas, chest: Chest) -> None:
    x = np.linspace(-1.3, 1.3, 40)
    for offset, value in ((0.03, -520.0), (0.12, -760.0)):
        line = np.column_stack([x, chest.depth * 0.97 + offset - 0.16 * x**2])
        canvas.stroke(line, value, width=0.016)


def _paint_wall(canvas: Canvas, chest: Chest, *, level: float) -> None:
    body = chest.body
    canvas.fill(body, 10.0)
    canvas.fill(body * 0.982, FAT)
    half_width, half_depth, y = chest.cavity
    ring = chest.thorax
    muscle = shifted(ring, 0, -y) * (1 + 0.115 / half_width, 1 + 0.075 / half_depth)
    canvas.fill(wobble(shifted(muscle, 0, y), chest.waves * (1.2, 1)), MUSCLE)
    for side in (-1, 1):
        back = ellipse(side * 0.15, y + half_depth * 1.02, 0.17, 0.10, turn=side * 0.2)
        canvas.fill(back, MUSCLE + 5)
        shoulder = ellipse(side * half_width * 0.93, y + half_depth * 0.45, 0.15, 0.2, turn=side * 0.5)
        canvas.fill(shoulder, MUSCLE)
        streak = ellipse(side * half_width * 1.02, y + half_depth * 0.4, 0.012, 0.16, turn=side * 0.55)
        canvas.fill(streak, FAT * 0.7)
        if level < 0.55:
            _paint_scapula(canvas, chest, side=side, level=level)


def _paint_scapula(canvas: Canvas, chest: Chest, *, side: int, level: float) -> None:
    half_width, half_depth, y = chest.cavity
    reach = 0.17 * (1 - level)
    blade = shifted(np.array([[0.0, -reach], [0.02, 0.0], [-0.05, reach]]), half_width * 1.02, y + half_depth * 0.42)
    blade = blade if side > 0 else mirror(blade)
    canvas.stroke(blade, CORTEX * 0.7, width=0.035)
    canvas.stroke(blade, MARROW, width=0.014)


def _paint_mediastinum(canvas: Canvas, chest: Chest, *, level: float) -> None:
    canvas.fill(chest.mediastinum(level), FAT * 0.6)
    _, half_depth, y = chest.cavity
    blood, scale = chest.blood, chest.heart
    below = float(np.clip((level - 0.45) / 0.4, 0, 1))
    if below > 0:
        canvas.fill(_inside(chest, level), 35.0)
        wide = 0.24 * scale * (0.55 + 0.45 * below)
        at = 0.10 * scale * below
        canvas.fill(ellipse(at + 0.05, y - 0.12, wide * 0.62, 0.17, turn=0.7), blood)
        canvas.fill(ellipse(at - 0.12 * below, y - 0.05, wide * 0.45, 0.14, turn=-0.4), blood * 0.9 + 5)
        canvas.fill(ellipse(0.0, y + half_depth * 0.2, 0.13 * scale, 0.07), blood * 0.95)
    else:
        canvas.fill(_inside(chest, level), 20.0)
    canvas.fill(ellipse(-0.045, y - half_depth * 0.24, 0.075 * scale, 0.078 * scale), blood)
    canvas.fill(ellipse(-0.115 * scale, y - half_depth * 0.12, 0.035, 0.045), blood * 1.15)
    canvas.fill(
        ellipse(0.075, y - half_depth * 0.18 + 0.06 * level, 0.06 * scale, 0.07 * scale, turn=0.5), blood * 1.05
    )
    _paint_airways(canvas, chest, level=level)
    canvas.fill(ellipse(0.1, y + half_depth * 0.44, 0.066, 0.07), blood)
    canvas.fill(ellipse(0.02, y + half_depth * 0.36, 0.028, 0.022), 30.0)
    canvas.fill(ellipse(0.0, y - half_depth * 1.06, 0.105, 0.038), CORTEX * 0.75)
    canvas.fill(ellipse(0.0, y - half_depth * 1.06, 0.08, 0.02), MARROW)


def _inside(chest: Chest, level: float) -> Points:
    """Return the mediastinum without its thin rim of fat."""
    _, half_depth, y = chest.cavity
    outline = chest.mediastinum(level)
    outline = outline[np.abs(outline[:, 1] - y) < half_depth * 0.72]
    return np.asarray(outline * (0.94, 1))


def _paint_airways(canvas: Canvas, chest: Chest, *, level: float) -> None:
    _, half_depth, y = chest.cavity
    apart = max(0.0, level - 0.28) * 0.42
    wide = 0.05 if apart == 0 else max(0.018, 0.04 - 0.04 * (level - 0.28))
    for side in (-1, 1):
        at = (side * apart + 0.01, y + half_depth * (0.12 + 0.1 * apart))
        canvas.fill(ellipse(*at, wide + 0.014, wide + 0.014), 20.0)
        canvas.fill(ellipse(*at, wide, wide * 1.05), AIR + 20)


def _paint_spine(canvas: Canvas, chest: Chest) -> None:
    _, half_depth, y = chest.cavity
    at, half = y + half_depth * 0.74, chest.spine
    for rim, value in ((0.0, CORTEX), (0.016, MARROW)):
        canvas.fill(ellipse(0, at, half - rim, half * 0.82 - rim, power=0.85), value)
        for side in (-1, 1):
            wing = ellipse(
                side * half * 1.35, at + half * 1.35, half * 0.75 - rim, half * 0.22 - rim * 0.7, turn=-side * 0.35
            )
            canvas.fill(wing, value)
            canvas.fill(ellipse(side * half * 0.62, at + half * 1.05, 0.03 - rim * 0.7, half * 0.5 - rim), value)
        thorn = np.array([[-0.035, 1.45], [0.035, 1.45], [0.018, 2.4], [-0.018, 2.4]])
        canvas.fill(shifted(thorn * (1 - rim * 12, half), 0, at), value)
    canvas.fill(ellipse(0, at + half * 1.12, half * 0.46, half * 0.36), CORTEX)
    canvas.fill(ellipse(0, at + half * 1.12, half * 0.38, half * 0.3), 25.0)


def _paint_lungs(canvas: Canvas, chest: Chest, *, lungs: Mask, level: float, rng: np.random.Generator) -> None:
    depth = np.linspace(-45, 45, canvas.side, dtype=np.float32)[:, None]
    tissue = chest.lung + depth + canvas.field(rng, cells=14, amount=14.0) + canvas.field(rng, cells=40, amount=9.0)
    for side, tree in zip((-1, 1), chest.trees, strict=True):
        ends, widths, levels = tree.cut((level - 0.45) * 0.8)
        shift = chest.hilum(side, level) - tree.ends[0, 0, :2]
        fade = np.exp(-((ends[:, :, :1] - tree.ends[0, 0, 0]) ** 2) / 0.08) * (1, 0)
        cover = canvas.segments(ends + shift * fade, widths, levels)
        tissue += (30.0 - tissue) * cover
    canvas.blend(lungs, tissue.astype(np.float32))


def _paint_ribs(canvas: Canvas, chest: Chest, *, level: float) -> None:
    half_width, half_depth, y = chest.cavity
    ring = shifted(chest.thorax, 0, -y) * (1 + 0.04 / half_width, 1 + 0.035 / half_depth)
    dense = np.concatenate([ring, ring[:1]])
    along = np.linspace(0, 1, len(dense))
    for i in range(13):
        middle = ((i + chest.rib_phase + 0.8 * level) / 13) % 1.0
        # There are no ribs at the sternum (0.75) and the spine (0.25).
        if min(abs(middle - 0.25), abs(middle - 0.75)) < 0.055:
            continue
        half = 0.014 + 0.018 * np.cos(4 * np.pi * middle + i) ** 2
        steps = np.linspace(middle - half, middle + half, 12) % 1.0
        tilt = np.linspace(-0.03, 0.03, 12)[:, None] * np.sin(2.4 * i + 9 * chest.rib_phase)
        rib = np.column_stack([np.interp(steps, along, dense[:, 0]), np.interp(steps, along, dense[:, 1])])
        rib = shifted(rib * (1 + tilt), 0, y)
        canvas.stroke(rib, CORTEX, width=0.034)
        canvas.stroke(rib[1:-1], MARROW, width=0.014)
