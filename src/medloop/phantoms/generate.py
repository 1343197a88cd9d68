"""Generate phantoms one patient at a time, each from the seed and the patient's number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from medloop.phantoms.canvas import Canvas, Pose
from medloop.phantoms.chest import AIR, draw_chest, paint_chest
from medloop.phantoms.kinds import KIND_DRAWERS, draw_pose
from medloop.phantoms.nodules import Site, draw_tumour
from medloop.phantoms.spec import Drawing, PhantomSpec, Slice, Window

# One stream of random numbers per purpose, so that a tumour does not change the anatomy or the noise around it.
_COUNT, _ANATOMY, _TUMOUR, _SLICE, _LABELS = 1, 2, 3, 4, 5


def generate(spec: PhantomSpec) -> Iterator[Slice]:
    """Yield all slices, patient by patient."""
    for patient in range(spec.patients):
        yield from generate_patient(spec, patient)


def generate_patient(spec: PhantomSpec, patient: int) -> Iterator[Slice]:
    """Yield the slices of one patient, which do not depend on the other patients."""
    low, high = spec.slices
    count = int(_stream(spec, patient, _COUNT).integers(low, high + 1))
    label = label_of(spec, patient)
    draw = _draw_chest_ct if spec.kind == "chest_ct" else _draw_six_kinds
    for index, drawing in enumerate(draw(spec, patient, label, count)):
        yield Slice(
            pixels=drawing.window.to_pixels(drawing.values),
            patient_id=f"S{spec.seed}P{patient:05d}",
            label=label,
            index=index,
            drawing=drawing,
        )


def label_of(spec: PhantomSpec, patient: int) -> str:
    """Return the class of a patient; each block of patients has every class once, in random order."""
    block, place = divmod(patient, len(spec.classes))
    order = _stream(spec, block, _LABELS).permutation(len(spec.classes))
    return spec.classes[int(order[place])]


def _stream(spec: PhantomSpec, number: int, purpose: int, index: int = 0) -> np.random.Generator:
    return np.random.default_rng([spec.seed, number, purpose, index])


def _breathe(pose: Pose, rng: np.random.Generator) -> Pose:
    """Shift the body a little between two slices of one patient."""
    return replace(pose, dx=pose.dx + rng.normal(0, 0.004), dy=pose.dy + rng.normal(0, 0.006))


def _draw_chest_ct(spec: PhantomSpec, patient: int, label: str, count: int) -> Iterator[Drawing]:
    body = _stream(spec, patient, _ANATOMY)
    chest = draw_chest(body)
    window = Window(centre=int(body.integers(-375, -325)), width=int(body.integers(1450, 1600)))
    noise = (12 + 72 * spec.difficulty**2) * body.uniform(0.7, 1.3)
    levels = chest.levels(count)
    grains = [_stream(spec, patient, _SLICE, k) for k in range(count)]
    canvases = [Canvas(size=spec.size, background=AIR, pose=_breathe(chest.pose, grain)) for grain in grains]
    lungs = [
        paint_chest(canvas, chest, level=level, rng=grain)
        for canvas, level, grain in zip(canvases, levels, grains, strict=True)
    ]
    middle = count // 2
    hila = np.stack([chest.hilum(side, levels[middle]) for side in (-1, 1)])
    # The tumour is placed where every slice of the patient has lung.
    site = Site(canvas=canvases[middle], lungs=np.minimum.reduce(lungs), hila=hila)
    tumour = draw_tumour(label, _stream(spec, patient, _TUMOUR), site=site)
    for k, (canvas, grain) in enumerate(zip(canvases, grains, strict=True)):
        nodule = None
        if tumour is not None:
            shrink = max(0.75, 1 - 0.06 * (k - middle) ** 2)
            tumour.paint(canvas, shrink=shrink, contrast=1 - 0.85 * spec.difficulty**2)
            nodule = canvas.nodule_at(x=tumour.x, y=tumour.y, radius=tumour.radius * shrink)
        values = canvas.finish(grain, noise=noise)
        yield Drawing(values=values, window=window, modality="CT", body_part="CHEST", nodule=nodule)


def _draw_six_kinds(spec: PhantomSpec, patient: int, label: str, count: int) -> Iterator[Drawing]:
    kind = KIND_DRAWERS[label]
    for index in range(count):
        # Restarted for each slice, so that all slices show the same anatomy.
        body = _stream(spec, patient, _ANATOMY)
        grain = _stream(spec, patient, _SLICE, index)
        pose, level = draw_pose(body), body.uniform(0, 0.6)
        canvas = Canvas(size=spec.size, background=kind.background, pose=_breathe(pose, grain))
        kind.paint(canvas, body, grain, min(1.0, level + 0.1 * index))
        values = canvas.finish(grain, noise=kind.noise * (0.5 + spec.difficulty))
        yield Drawing(values=values, window=kind.window, modality=kind.modality, body_part=kind.body_part)
