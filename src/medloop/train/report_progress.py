"""What a long training says while it runs: how fast, how good, how long still."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from medloop.progress import track
from medloop.train.checkpoint import Progress
from medloop.train.image_learning import Rows

# The first steps also allocate and tune themselves, so that their time says little.
FIRST, TIMED = 3, 10


@dataclass
class Reporter:
    """Lines and bars on standard error; silent in all processes but the first."""

    what: str
    epochs: int
    silent: bool = False
    shown: str = field(default="", init=False)
    told: bool = field(default=False, init=False)

    def say(self, text: str) -> None:
        """One line."""
        if not self.silent:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def batches(self, batches: Sequence[Rows], epoch: int) -> Iterator[Rows]:
        """The batches of an epoch under a bar that carries the figures of the last one."""
        what = f"{self.what}, epoch {epoch + 1} of {self.epochs}{self.shown}"
        items = batches if self.silent else track(batches, total=len(batches), what=what)
        started = 0.0
        for number, batch in enumerate(items):
            if number == FIRST:
                started = time.perf_counter()
            if number == FIRST + TIMED and not self.told:
                self._tell(batches, epoch, time.perf_counter() - started)
            yield batch

    def epoch_ended(self, progress: Progress) -> None:
        """The figures of the epoch, and the time that the rest takes if none is saved by stopping early."""
        row = progress.history[-1]
        left = (self.epochs - progress.epoch) * float(np.mean([one["seconds"] for one in progress.history]))
        self.shown = (
            f"  loss {row['train_loss']:.3f}  val {row['val_loss']:.3f}  AUC {row['roc_auc']:.3f}"
            f"  {row['images_per_s']:.0f} images/s"
        )
        best = " (best)" if progress.best_epoch == progress.epoch else ""
        self.say(f"{self.what}, epoch {progress.epoch} of {self.epochs}{self.shown}  {spoken(left)} left{best}")

    def _tell(self, batches: Sequence[Rows], epoch: int, seconds: float) -> None:
        self.told = True
        images = sum(len(batch) for batch in batches[FIRST : FIRST + TIMED])
        rate = images / max(seconds, 1e-9)
        total = (self.epochs - epoch) * sum(len(batch) for batch in batches) / rate
        self.say(f"{self.what}: {rate:.0f} images/s, at most {spoken(total)} for {self.epochs - epoch} epochs")


def spoken(seconds: float) -> str:
    """A length of time as a person says it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
