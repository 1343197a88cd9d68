"""Six kinds of picture, for classifying body parts and modalities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from medloop.phantoms.canvas import Canvas, Pose, draw_waves, ellipse, mirror, shifted, wobble
from medloop.phantoms.chest import AIR, CORTEX, FAT, MARROW, MUSCLE, draw_chest, paint_chest
from medloop.phantoms.spec import Window

_FILM: Final = Window(centre=2048, width=4096)
Painter = Callable[[Canvas, np.random.Generator, np.random.Generator, float], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How one kind of picture is made: paint(canvas, rng of the patient, rng of the slice, level)."""

    paint: Painter
    modality: str
    body_part: str
    window: Window
    background: float
    noise: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw the position of a patient."""
    return Pose(dx=rng.normal(0, 0.03), dy=rng.normal(0, 0.03), turn=rng.normal(0, 0.06), scale=rng.uniform(0.85, 1.04))


def _paint_abdomen(canvas: Canvas, body: np.random.Generator, grain: np.random.Generator, level: float) -> None:
    depth = body.uniform(0.56, 0.7)
    skin = wobble(ellipse(0, 0, 0.88, depth, power=0.85, count=96), draw_waves(body, amount=0.012))
    belly = skin * body.uniform(0.76, 0.9)
    canvas.fill(skin, FAT)
    canvas.fill(belly, MUSCLE)
    canvas.fill(belly * (0.93, 0.9), FAT * 0.8)
    liver = ellipse(-0.34, -0.08, 0.36, 0.34 * (1 - 0.5 * level), turn=0.5)
    canvas.fill(wobble(liver, draw_waves(body, amount=0.05)), body.uniform(85, 130))
    canvas.fill(ellipse(0.5, 0.1, 0.16, 0.24 * (1 - 0.6 * level), turn=-0.3), body.uniform(90, 140))
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.32, 0.3, 0.1, 0.14, turn=side * 0.5), body.uniform(120, 210))
        canvas.fill(ellipse(side * 0.29, 0.29, 0.035, 0.06, turn=side * 0.5), 10.0)
        canvas.fill(ellipse(side * 0.14, 0.4, 0.09, 0.1), MUSCLE)
        canvas.fill(ellipse(side * 0.22, depth * 0.76, 0.17, 0.09, turn=-side * 0.25), MUSCLE)
    for _ in range(int(body.integers(7, 12))):
        x, y = body.uniform(-0.3, 0.5), body.uniform(-0.42, -0.02)
        rx, ry = body.uniform(0.05, 0.12, 2)
        canvas.fill(ellipse(x, y, rx, ry), body.uniform(20, 70))
        canvas.fill(ellipse(x, y - ry * 0.3, rx * 0.6, ry * 0.4), AIR if body.random() < 0.4 else 150.0)
    canvas.fill(ellipse(0.05, 0.21, 0.06, 0.06), body.uniform(90, 240))
    canvas.fill(ellipse(-0.08, 0.22, 0.07, 0.05), body.uniform(80, 150))
    _paint_vertebra(canvas, y=depth * 0.62)
    canvas.values += canvas.field(grain, cells=20, amount=6.0)


def _paint_vertebra(canvas: Canvas, *, y: float) -> None:
    canvas.fill(ellipse(0, y + 0.16, 0.2, 0.05), CORTEX * 0.7)
    canvas.fill(ellipse(0, y, 0.14, 0.11, power=0.85), CORTEX)
    canvas.fill(ellipse(0, y, 0.12, 0.09, power=0.85), MARROW)
    canvas.fill(ellipse(0, y + 0.14, 0.05, 0.04), 25.0)


def _paint_breast(canvas: Canvas, body: np.random.Generator, grain: np.random.Generator, level: float) -> None:
    reach, wide = body.uniform(0.4, 0.75) * (1 - 0.3 * level), body.uniform(0.24, 0.33)
    fat, gland = body.uniform(2400, 3400), body.uniform(700, 1500)
    apart = body.uniform(0.4, 0.48)
    waves = draw_waves(body, amount=0.04)
    chest = ellipse(0, 0.78, 0.9, 0.42, power=0.9)
    canvas.fill(chest, fat)
    canvas.fill(chest * (0.94, 1) + (0, 0.09), gland * 0.7)
    for side in (-1, 1):
        canvas.fill(wobble(ellipse(side * apart, 0.5, wide, reach, power=0.9), waves), fat)
        inner = canvas.mask(wobble(ellipse(side * apart, 0.4, wide * 0.66, reach * 0.6), -waves), soft=0.06)
        tissue = gland + canvas.field(body, cells=30, amount=500.0)
        canvas.blend(inner, tissue)
        lung = canvas.mask(ellipse(side * 0.36, 1.0, 0.3, 0.26), soft=0.02)
        canvas.blend(lung, 150 + canvas.field(grain, cells=40, amount=60.0))
    canvas.fill(ellipse(0.08, 0.98, 0.22, 0.2), body.uniform(900, 2000))
    canvas.values *= np.linspace(1.15, 0.8, canvas.side, dtype=np.float32)[:, None]


def _paint_film(canvas: Canvas, body: np.random.Generator, grain: np.random.Generator, level: float) -> None:
    wide, top = body.uniform(0.58, 0.72), body.uniform(-0.72, -0.6)
    base = body.uniform(0.35, 0.55) + 0.06 * level
    canvas.fill(ellipse(0, 0.35, 0.95, 1.15, power=0.7), body.uniform(2100, 2700))
    canvas.fill(ellipse(0, -0.95, 0.2, 0.3), 2900.0)
    canvas.values += canvas.field(grain, cells=12, amount=90.0)
    for side in (-1, 1):
        height = base - top
        lung = wobble(
            ellipse(side * wide * 0.52, top + height * 0.55, wide * 0.44, height * 0.56, power=0.85),
            draw_waves(body, amount=0.02),
        )
        cover = canvas.mask(lung, soft=0.03)
        canvas.blend(cover, body.uniform(700, 1100) + canvas.field(body, cells=24, amount=110.0))
    for i in range(8):
        y = top + 0.1 + i * (base - top) / 7.5
        x = np.linspace(0.05, wide * (1.02 - 0.25 * np.exp(-i)), 20)
        rib = np.column_stack([x, y - 0.1 + 0.28 * (x / wide) ** 2])
        bones = canvas.segments(
            np.concatenate([np.stack([s[:-1], s[1:]], axis=1) for s in (rib, mirror(rib))]),
            np.full(38, 0.05),
            np.ones(38),
        )
        canvas.values += bones * 330
    shade = canvas.mask(ellipse(0, 0, 0.12, 1.2), soft=0.03)
    canvas.blend(shade * np.float32(0.85), 3300.0)
    heart = canvas.mask(ellipse(0.14, base - 0.24, body.uniform(0.24, 0.34), 0.27, turn=0.5), soft=0.03)
    canvas.blend(heart * np.float32(0.85), 3250.0)
    for side in (-1, 1):
        dome = canvas.mask(ellipse(side * wide * 0.5, base + 0.7, wide * 0.62, 0.7, power=0.8), soft=0.02)
        canvas.blend(dome * np.float32(0.9), 3300.0)
        clavicle = np.array([[side * 0.08, top + 0.1], [side * 0.35, top + 0.06], [side * 0.75, top - 0.02]])
        canvas.stroke(clavicle, 3100.0, width=0.05)


def _paint_chest(canvas: Canvas, body: np.random.Generator, grain: np.random.Generator, level: float) -> None:
    paint_chest(canvas, draw_chest(body), level=level, rng=grain)


def _paint_hand(canvas: Canvas, body: np.random.Generator, grain: np.random.Generator, level: float) -> None:
    spread, size = body.uniform(0.13, 0.24), body.uniform(0.9, 1.05)
    flesh, bone = body.uniform(1100, 1600), body.uniform(2700, 3700)
    lengths = np.array([0.62, 0.84, 0.92, 0.85, 0.68]) * size * (1 - 0.04 * level)
    fans = np.array([-3.6, -1.2, -0.1, 1.0, 2.0]) * spread
    roots = np.column_stack([[-0.17, -0.14, -0.02, 0.10, 0.21], [0.40, 0.16, 0.13, 0.16, 0.22]])
    ways = np.column_stack([np.sin(fans), -np.cos(fans)])
    wrist = np.array([0.03, 0.52])
    canvas.stroke(np.array([wrist, [0.02, 1.3]]), flesh, width=0.38)
    canvas.fill(ellipse(0.03, 0.3, 0.29, 0.3, power=0.8), flesh)
    tips = roots + ways * lengths[:, None]
    for root, tip in zip(roots, tips, strict=True):
        canvas.stroke(np.array([wrist * 0.5 + root * 0.5, tip]), flesh, width=0.17)
    canvas.values = canvas.soften(canvas.values, 0.02)
    for x in (-0.05, 0.09):
        canvas.stroke(np.array([[x, 0.6], [x - 0.01, 1.3]]), bone * 0.9, width=0.11)
    for x, y in ((-0.08, 0.5), (0.0, 0.48), (0.08, 0.5), (-0.03, 0.42), (0.05, 0.41), (0.11, 0.42)):
        canvas.fill(ellipse(x, y, 0.042, 0.042), bone * 0.85)
    for root, tip, way in zip(roots, tips, ways, strict=True):
        start = wrist + (root - wrist) * (0.5, 0.4)
        joints = [
            start,
            root + way * 0.16,
            root + way * 0.16 + (tip - root - way * 0.16) * 0.48,
            root + way * 0.16 + (tip - root - way * 0.16) * 0.78,
            tip,
        ]
        for near, far in pairwise(joints):
            gap = (far - near) * 0.09
            canvas.stroke(np.array([near + gap, far - gap]), bone, width=0.058)
            canvas.stroke(np.array([near + gap * 2, far - gap * 2]), bone * 0.78, width=0.022)
    canvas.values += canvas.field(grain, cells=6, amount=60.0)


def _paint_head(canvas: Canvas, body: np.random.Generator, grain: np.random.Generator, level: float) -> None:
    wide, tall = body.uniform(0.54, 0.64), body.uniform(0.7, 0.8)
    waves = draw_waves(body, amount=0.01)
    skull = wobble(ellipse(0, -0.05, wide, tall, power=0.95, count=96), waves)
    bone = body.uniform(0.035, 0.065)
    canvas.fill(skull * 1.05, 20.0)
    canvas.fill(skull, CORTEX * 1.3)
    inner = (skull - (0, -0.05)) * (1 - bone / wide) + (0, -0.05)
    canvas.fill(inner, 12.0)
    brain = canvas.mask(inner * 0.97, soft=0.015)
    canvas.blend(brain, 36 + canvas.field(body, cells=18, amount=5.0))
    grey = canvas.mask(inner * 0.78, soft=0.04)
    canvas.blend(grey * np.float32(0.8), 28 + canvas.field(grain, cells=18, amount=3.0))
    horn = body.uniform(0.03, 0.07) * (1.3 - 0.5 * level)
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.09, -0.25, horn, 0.14, turn=-side * 0.35), 5.0)
        canvas.fill(ellipse(side * 0.13, 0.2, horn, 0.17, turn=side * 0.45), 5.0)
        canvas.fill(ellipse(side * 0.17, -0.05, 0.06, 0.1, turn=side * 0.3), 40.0)
    canvas.stroke(np.array([[0, -0.05 - tall * 0.9], [0, -0.05 - tall * 0.5]]), 62.0, width=0.02)
    canvas.stroke(np.array([[0, tall * 0.4], [0, tall * 0.8]]), 62.0, width=0.02)
    for angle in np.linspace(0, 2 * np.pi, 15, endpoint=False) + body.uniform(0, 0.4):
        edge = np.array([np.cos(angle) * wide, np.sin(angle) * tall])
        canvas.stroke(shifted(np.array([edge * 0.85, edge * 0.72]), 0, -0.05), 14.0, width=0.015)


# Named as in Medical MNIST, so that one recipe fits both.
KIND_DRAWERS: Final[dict[str, Kind]] = {
    "AbdomenCT": Kind(
        paint=_paint_abdomen,
        modality="CT",
        body_part="ABDOMEN",
        window=Window(centre=40, width=500),
        background=AIR,
        noise=18.0,
    ),
    "BreastMRI": Kind(
        paint=_paint_breast, modality="MR", body_part="BREAST", window=_FILM, background=60.0, noise=60.0
    ),
    "CXR": Kind(paint=_paint_film, modality="CR", body_part="CHEST", window=_FILM, background=350.0, noise=50.0),
    "ChestCT": Kind(
        paint=_paint_chest,
        modality="CT",
        body_part="CHEST",
        window=Window(centre=-350, width=1500),
        background=AIR,
        noise=35.0,
    ),
    "Hand": Kind(paint=_paint_hand, modality="CR", body_part="HAND", window=_FILM, background=200.0, noise=50.0),
    "HeadCT": Kind(
        paint=_paint_head,
        modality="CT",
        body_part="HEAD",
        window=Window(centre=35, width=110),
        background=AIR,
        noise=4.0,
    ),
}
