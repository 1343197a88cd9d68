"""Training a head on a frozen backbone: medloop against a loop that decodes and recomputes everything per epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_sets import SIZE, forget, learn, learning_project, part_of
from benchmarks.plain_torch import BATCH, PlainHead, build
from benchmarks.row import Row, interleaved
from medloop.metrics import METRICS
from medloop.steps.project import Project
from medloop.steps.stages import prepare

EPOCHS = 15
VIEWS = 4
# Measurements of each, so this many epochs of the plain loop are timed.
ROUNDS = 3
COUNTS = {"resnet18": 320, "vgg16": 120}
MIN_SPEEDUP, MIN_SPEEDUP_VIEWS = 20, 5
MAX_SECOND_FIT_SECONDS = 5

Floats = NDArray[np.float64]


def measure() -> list[Row]:
    """Return the rows of both backbones."""
    rows = []
    for backbone, count in COUNTS.items():
        with tempfile.TemporaryDirectory() as temporary:
            rows += _measure(learning_project(Path(temporary), count), backbone)
    return rows


def _measure(project: Project, backbone: str) -> list[Row]:
    classes = sorted(project.cases()["label"].unique())
    seen, tested = part_of(project, "train"), part_of(project, "test")
    y, truth = (np.array([classes.index(label) for label in part["label"]]) for part in (seen, tested))
    plain = PlainHead(backbone, classes=len(classes), size=SIZE, paths=seen["path"].tolist(), y=y)
    works: dict[str, Callable[[], object]] = {
        "plain": plain.epoch,
        "once": partial(_prepare_and_train, project, backbone, views=1),
        "views": partial(_prepare_and_train, project, backbone, views=VIEWS),
    }
    seconds = interleaved(works, before=partial(forget, project), rounds=ROUNDS)
    plain.go_on_to(EPOCHS)
    auc = METRICS["roc_auc"](truth, plain.probabilities(tested["path"].tolist()))
    rows = []
    for work, views, wanted in (("once", 1, MIN_SPEEDUP), ("views", VIEWS, MIN_SPEEDUP_VIEWS)):
        forget(project)
        works[work]()
        found = METRICS["roc_auc"](truth, _probabilities(project, backbone))
        ratio = EPOCHS * seconds["plain"] / seconds[work]
        what = "augmentation off" if views == 1 else f"{views} views"
        rows.append(
            Row(
                what=f"{backbone}, head, {what}: {len(y)} images, {EPOCHS} epochs of a plain loop in "
                f"{EPOCHS * seconds['plain']:.0f} s ({ROUNDS} timed), medloop prepared and trained in "
                f"{seconds[work]:.1f} s; AUC of the plain loop {auc:.3f}",
                found=f"{ratio:.1f} x, AUC {found:.3f}",
                wanted=f">= {wanted} x, AUC no lower",
                holds=ratio >= wanted and found >= auc,
            )
        )
    return [*rows, _second_fit(project, backbone)]


def _prepare_and_train(project: Project, backbone: str, *, views: int) -> None:
    prepare.run(project)
    learn(project, backbone, views=views)


def _second_fit(project: Project, backbone: str) -> Row:
    """Measure a training whose features are all cached."""
    again = partial(learn, project, backbone, views=VIEWS, balance="weights")
    seconds = interleaved({"again": again}, before=lambda: None, rounds=ROUNDS)["again"]
    return Row(
        what=f"{backbone}, head: a second training on the cached features of {VIEWS} views",
        found=f"{seconds:.1f} s",
        wanted=f"< {MAX_SECOND_FIT_SECONDS} s",
        holds=seconds < MAX_SECOND_FIT_SECONDS,
    )


def _probabilities(project: Project, backbone: str) -> Floats:
    """Return the predictions of the trained weights for the test images, in plain torch."""
    import torch
    from safetensors.torch import load_file

    from medloop.prepare.prepared_images import read_prepared_images

    pictures = read_prepared_images(project.work / "prepared")
    places = {name: place for place, name in enumerate(pictures.case_ids)}
    rows = [places[name] for name in part_of(project, "test").index]
    model = build(backbone, len(pictures.task["classes"]), SIZE).eval()
    model.load_state_dict(load_file(project.work / "trained" / "weights.safetensors"))
    images = torch.from_numpy(np.asarray(pictures.images[rows])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = torch.cat([model(part.float())[0] for part in torch.split(images, BATCH)])
    return np.asarray(logits.double().softmax(1).numpy())
