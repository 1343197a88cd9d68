"""Progress of a long training: its size, speed, figures and remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medloop.models.backbone import Classifier
from medloop.progress import track
from medloop.recipe import TrainSection
from medloop.train.images.checkpoint import Progress
from medloop.train.images.examples import Rows

# The first steps are slower, since they allocate memory and choose algorithms.
WARMUP_STEPS, TIMED_STEPS = 3, 10


@dataclass
class Reporter:
    """Writes lines and progress bars to standard error, in the first process only."""

    what: str
    epochs: int
    silent: bool = False
    figures: str = field(default="", init=False)
    has_estimate: bool = field(default=False, init=False)

    def print(self, text: str) -> None:
        """Write one line."""
        if not self.silent:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def batches(self, batches: Sequence[Rows], epoch: int) -> Iterator[Rows]:
        """Yield the batches of an epoch under a progress bar with the figures of the previous one."""
        what = f"{self.what}, epoch {epoch + 1} of {self.epochs}{self.figures}"
        items = batches if self.silent else track(batches, total=len(batches), what=what)
        started = 0.0
        for number, batch in enumerate(items):
            if number == WARMUP_STEPS:
                started = time.perf_counter()
            if number == WARMUP_STEPS + TIMED_STEPS and not self.has_estimate:
                self._print_estimate(batches, epoch, time.perf_counter() - started)
            yield batch

    def epoch_ended(self, progress: Progress) -> None:
        """Print the figures of the epoch, and the remaining time unless the training stops early."""
        row = progress.history[-1]
        left = (self.epochs - progress.epoch) * float(np.mean([one["seconds"] for one in progress.history]))
        self.figures = (
            f"  loss {row['train_loss']:.3f}  val {row['val_loss']:.3f}  AUC {row['roc_auc']:.3f}"
            f"  {row['images_per_s']:.0f} images/s"
        )
        best = " (best)" if progress.best_epoch == progress.epoch else ""
        self.print(
            f"{self.what}, epoch {progress.epoch} of {self.epochs}{self.figures}  {format_duration(left)} left{best}"
        )

    def _print_estimate(self, batches: Sequence[Rows], epoch: int, seconds: float) -> None:
        self.has_estimate = True
        images = sum(len(batch) for batch in batches[WARMUP_STEPS : WARMUP_STEPS + TIMED_STEPS])
        rate = images / max(seconds, 1e-9)
        total = (self.epochs - epoch) * sum(len(batch) for batch in batches) / rate
        self.print(
            f"{self.what}: {rate:.0f} images/s, at most {format_duration(total)} for {self.epochs - epoch} epochs"
        )


def describe_training(model: Classifier, section: TrainSection, fabric: Any, *, images: int, watched: int) -> str:
    """Return two lines on what is about to run: mode, device and parameters, then images and epochs."""
    device = fabric.device.type if fabric.world_size == 1 else f"{fabric.world_size} x {fabric.device.type}"
    trained = model.head if section.mode == "head" or section.freeze else model
    total, learned = (sum(weight.numel() for weight in part.parameters()) for part in (model, trained))
    passes = f"{section.epochs} epochs" if section.mode == "finetune" else f"{section.views} view(s)"
    return (
        f"{section.mode} on {device} in {fabric._precision.precision}: {total:,} parameters, {learned:,} trainable\n"
        f"{images:,} training images, {watched:,} validation images, {passes}"
    )


def format_duration(seconds: float) -> str:
    """Return a duration in words, such as 1 h 2 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
