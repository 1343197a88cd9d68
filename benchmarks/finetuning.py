"""Fine-tuning of a ResNet-18: images per second against a plain fp32 torch loop on the same prepared images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.learning_sets import learning_project
from benchmarks.plain_torch import BATCH, PlainFinetune
from benchmarks.row import Row, interleaved
from medloop.models import hyperparameters
from medloop.models.augment import PLAIN
from medloop.recipe import TrainSection
from medloop.steps.project import Project
from medloop.steps.stages import prepare
from medloop.train.images.examples import ImageLearning, read_image_learning
from medloop.train.images.learn import learn_turns

BACKBONE = "resnet18"
COUNT = 240
ROUNDS = 5
MIN_SPEEDUP = 1.7


def measure() -> list[Row]:
    """Return one row, of the steps alone and without augmentation on either side."""
    with tempfile.TemporaryDirectory() as temporary:
        project = learning_project(Path(temporary), COUNT)
        prepare.run(project)
        learning = read_image_learning(project.work / "prepared", project.work / "splits.parquet")
        seen = learning.final_turn().seen
        plain = PlainFinetune(
            BACKBONE, classes=len(learning.classes), pictures=learning.pixels(seen), y=learning.y[seen]
        )
        ours: list[float] = []
        works: dict[str, Callable[[], object]] = {
            "plain": plain.epoch,
            "medloop": partial(_one_epoch, project, learning, ours),
        }
        seconds = interleaved(works, before=lambda: None, rounds=ROUNDS)
    theirs = len(seen) / seconds["plain"]
    ratio = median(ours) / theirs
    return [
        Row(
            what=f"{BACKBONE}, finetune, batches of {BATCH}: {median(ours):.1f} images a second, "
            f"plain fp32 torch {theirs:.1f}",
            found=f"{ratio:.2f} x",
            wanted=f">= {MIN_SPEEDUP} x",
            holds=ratio >= MIN_SPEEDUP,
        )
    ]


def _one_epoch(project: Project, learning: ImageLearning, rates: list[float]) -> None:
    """Record the images per second of the steps, without validation and checkpoints."""
    section = TrainSection(mode="finetune", epochs=1, batch_size=BATCH, augment=PLAIN)
    params = hyperparameters("backbone", {"backbone": BACKBONE})
    turns = [learning.final_turn()]
    cache = project.work / "cache"
    trained = learn_turns(learning, "backbone", params, section, turns, cache=cache, root=project.root)
    rates.append(float(trained.history["images_per_s"].iloc[-1]))
