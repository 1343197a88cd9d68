"""Learning all weights end to end: epochs, steps, and the one epoch that the validation cases like best."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from medloop.errors import UserError
from medloop.metrics.view import FloatArray, IntArray
from medloop.models.augment import augment
from medloop.models.backbone import Classifier
from medloop.recipe import TrainSection
from medloop.train.checkpoint import Progress, copy_state, read_checkpoint, write_checkpoint
from medloop.train.device import batch_on, layout_of, placed
from medloop.train.image_learning import ImageLearning, Rows, Turn
from medloop.train.learning import measure
from medloop.train.rates import follow, rate_share, set_rates, weight_groups
from medloop.train.report_progress import Reporter

OnEpoch = Callable[[Mapping[str, float]], None]


class Diverged(UserError):
    """A training that left all bounds; with other hyperparameters it might not."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One training: what is learned from, how, and where its state is kept."""

    learning: ImageLearning
    turn: Turn
    section: TrainSection
    backbone_factor: float
    fabric: Any
    checkpoint: Path
    reporter: Reporter
    on_epoch: OnEpoch

    def run(self, model: Classifier) -> list[dict[str, float]]:
        """Train, leave the best epoch's weights in the model, and give one row of figures an epoch."""
        section, fabric = self.section, self.fabric
        if section.freeze:
            model.body.requires_grad_(False)
        placed(model, fabric.device)
        groups = weight_groups(model, section, self.backbone_factor)
        wrapped, optimizer = fabric.setup(model, torch.optim.AdamW(groups, lr=section.learning_rate))
        average = copy.deepcopy(model).requires_grad_(False) if section.ema else None
        progress = Progress()
        if fabric.broadcast(self.checkpoint.is_file()):
            progress = read_checkpoint(self.checkpoint, model, average, optimizer.optimizer)
        while progress.epoch < section.epochs and not self._is_over(progress):
            self._epoch(progress, wrapped, average, optimizer)
            if fabric.is_global_zero:
                state = average.state_dict() if average else None
                write_checkpoint(self.checkpoint, progress, model.state_dict(), state, optimizer.optimizer)
                self.on_epoch(progress.history[-1])
        model.load_state_dict(progress.best)
        return progress.history

    def _is_over(self, progress: Progress) -> bool:
        return 0 < self.section.patience <= progress.epoch - progress.best_epoch

    def _epoch(self, progress: Progress, wrapped: Any, average: Classifier | None, optimizer: Any) -> None:
        model, started = wrapped.module, time.perf_counter()
        model.train()
        # A frozen batch-norm keeps the statistics that it came with.
        model.body.train(not self.section.freeze)
        for norm in folded_norms(model):
            norm.eval()
        losses = list(self._steps(progress.epoch, wrapped, average, optimizer))
        seconds = time.perf_counter() - started
        progress.epoch += 1
        probabilities = self.fabric.broadcast(self.predict(average or model, self.turn.watched))
        y, loss = self.learning.y[self.turn.watched], finite(torch.stack(losses), probabilities)
        figures = measure(y, probabilities, self.learning.classes, self.learning.positive)
        progress.history.append(
            {
                "fold": self.turn.fold,
                "epoch": progress.epoch,
                "train_loss": loss,
                "val_loss": log_loss(y, probabilities),
                "seconds": seconds,
                "images_per_s": len(self.turn.seen) / seconds,
                **figures,
            }
        )
        if progress.history[-1]["val_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = progress.history[-1]["val_loss"], progress.epoch
            progress.best = copy_state(average or model)
        self.reporter.epoch_ended(progress)

    def _steps(self, epoch: int, wrapped: Any, average: Classifier | None, optimizer: Any) -> Iterator[torch.Tensor]:
        """Every draw of an epoch depends on its number alone, so that a resumed training makes the same ones."""
        section, fabric = self.section, self.fabric
        seed = int(np.random.SeedSequence([section.seed, epoch, self.turn.fold + 1]).generate_state(1)[0])
        torch.manual_seed(seed + fabric.global_rank)
        rng, numbers = torch.Generator().manual_seed(seed + fabric.global_rank), np.random.default_rng(seed)
        weights = class_weights(self.learning.y[self.turn.seen], len(self.learning.classes))
        order = draw_order(self.turn.seen, self.learning.y, weights if section.balance == "sampler" else None, numbers)
        batches = np.array_split(order, math.ceil(len(order) / section.batch_size))
        loss_weights = torch.tensor(weights, device=fabric.device, dtype=torch.float32)
        steps, layout = section.epochs * len(batches), layout_of(wrapped, fabric.device)
        for number, batch in enumerate(self.reporter.batches(batches, epoch)):
            step = epoch * len(batches) + number
            set_rates(optimizer, rate_share(step, steps, section.warmup))
            rows = batch[fabric.global_rank :: fabric.world_size]
            images = augment(batch_on(self.learning.pixels(rows), fabric.device), section.augment, rng)
            targets = torch.tensor(self.learning.y[rows], device=fabric.device)
            targets = one_hot(targets, len(self.learning.classes)).float()
            if section.mixup:
                images, targets = mix(images, targets, share=float(numbers.beta(section.mixup, section.mixup)))
            logits = wrapped(images.contiguous(memory_format=layout))[0]
            loss = cross_entropy(
                logits,
                targets,
                weight=loss_weights if section.balance == "weights" else None,
                label_smoothing=section.label_smoothing,
            )
            fabric.backward(loss)
            if section.clip:
                fabric.clip_gradients(wrapped, optimizer, max_norm=section.clip, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                follow(average, wrapped.module, decay=min(section.ema, (1 + step) / (10 + step)))
            yield loss.detach()

    def predict(self, model: Classifier, rows: Rows) -> FloatArray:
        """Probabilities for the pictures as they are."""
        model.eval()
        layout = layout_of(model, self.fabric.device)
        found = np.empty((len(rows), len(self.learning.classes)))
        for start in range(0, len(rows), self.section.batch_size):
            batch = rows[start : start + self.section.batch_size]
            with torch.inference_mode(), self.fabric.autocast():
                images = batch_on(self.learning.pixels(batch), self.fabric.device).float()
                logits = model(images.contiguous(memory_format=layout))[0]
            found[start : start + len(batch)] = logits.double().softmax(1).cpu().numpy()
        return found


def folded_norms(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Batch-norms that change nothing, their figures folded into a layer before: batch statistics would undo it."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        and layer.running_var is not None
        and torch.allclose(layer.running_var + layer.eps, torch.ones(()), rtol=0, atol=layer.eps / 10)
    ]


def class_weights(y: IntArray, classes: int) -> FloatArray:
    """As much weight for all cases of one class as for those of another; 1 on average."""
    return np.asarray(len(y) / (classes * np.bincount(y, minlength=classes)))


def draw_order(rows: Rows, y: IntArray, weights: FloatArray | None, numbers: np.random.Generator) -> Rows:
    """Every case once, or, with weights, as many draws in which each class comes equally often."""
    if weights is None:
        return np.asarray(numbers.permutation(rows))
    shares = weights[y[rows]] / weights[y[rows]].sum()
    return np.asarray(numbers.choice(rows, size=len(rows), p=shares))


def mix(images: torch.Tensor, targets: torch.Tensor, *, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each picture blended with its neighbour in the batch, and so its target."""
    return images.lerp(images.roll(1, 0), 1 - share), targets.lerp(targets.roll(1, 0), 1 - share)


def log_loss(y: IntArray, probabilities: FloatArray) -> float:
    """The mean surprise over the classes as they are, whichever of them count as positive."""
    return float(-np.log(np.clip(probabilities[np.arange(len(y)), y], 1e-12, 1)).mean())


def finite(losses: torch.Tensor, probabilities: FloatArray) -> float:
    """The mean loss of an epoch, or why there is no use in going on."""
    if not (torch.isfinite(losses).all() and np.isfinite(probabilities).all()):
        raise Diverged("the loss must stay a number", found="NaN or infinity", hint="lower train.learning_rate")
    return float(losses.mean())
