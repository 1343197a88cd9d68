"""Fine-tuning of the whole network: epochs, steps, and the epoch with the lowest validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.data import RandomSampler, WeightedRandomSampler

from medloop.errors import UserError
from medloop.metrics.calibration import case_log_losses
from medloop.metrics.view import FloatArray, IntArray
from medloop.models.augment import augment
from medloop.models.backbone import Classifier
from medloop.models.torchvision_guard import import_timm
from medloop.recipe import TrainSection
from medloop.train.images.checkpoint import Progress, copy_state, read_checkpoint, write_checkpoint
from medloop.train.images.device import memory_format_of, to_device
from medloop.train.images.examples import ImageLearning, Rows, Turn
from medloop.train.images.loader import BatchLoader
from medloop.train.images.report_progress import Reporter
from medloop.train.learning import measure

OnEpoch = Callable[[Mapping[str, float]], None]


class Diverged(UserError):
    """The loss became NaN or infinite; with other hyperparameters it might not."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A network with everything that a step changes."""

    network: Any
    average: Any
    optimizer: Any
    schedule: Any


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One training: its cases, its settings, and where its state is stored."""

    learning: ImageLearning
    turn: Turn
    section: TrainSection
    backbone_factor: float
    fabric: Any
    checkpoint: Path
    reporter: Reporter
    on_epoch: OnEpoch

    def run(self, model: Classifier) -> list[dict[str, float]]:
        """Train the model, load the weights of its best epoch into it, and return one row of figures per epoch."""
        section, fabric = self.section, self.fabric
        if section.freeze:
            model.body.requires_grad_(False)
        to_device(model, fabric.device)
        groups = parameter_groups(model, section, self.backbone_factor)
        network, optimizer = fabric.setup(model, torch.optim.AdamW(groups, lr=section.learning_rate))
        learner = Learner(
            network=network,
            average=make_average(model, section),
            optimizer=optimizer,
            schedule=make_schedule(optimizer.optimizer, section, steps=section.epochs * self.batches),
        )
        average = learner.average.module if learner.average else None
        progress = Progress()
        if fabric.broadcast(self.checkpoint.is_file()):
            progress = read_checkpoint(self.checkpoint, model, average, optimizer.optimizer)
        while progress.epoch < section.epochs and not self._is_over(progress):
            self._epoch(progress, learner)
            if fabric.is_global_zero:
                state = average.state_dict() if average else None
                write_checkpoint(self.checkpoint, progress, model.state_dict(), state, optimizer.optimizer)
                self.on_epoch(progress.history[-1])
        model.load_state_dict(progress.best)
        return progress.history

    @cached_property
    def loader(self) -> BatchLoader:
        """The images, for training and validation alike."""
        return BatchLoader(self.learning, self.fabric.device)

    @property
    def batches(self) -> int:
        """The number of batches per epoch."""
        return math.ceil(len(self.turn.seen) / self.section.batch_size)

    def _is_over(self, progress: Progress) -> bool:
        return 0 < self.section.patience <= progress.epoch - progress.best_epoch

    def _epoch(self, progress: Progress, learner: Learner) -> None:
        model, started = learner.network.module, time.perf_counter()
        model.train()
        # A frozen batch norm keeps its statistics.
        model.body.train(not self.section.freeze)
        for norm in find_folded_norms(model):
            norm.eval()
        losses = list(self._steps(progress.epoch, learner))
        seconds = time.perf_counter() - started
        progress.epoch += 1
        kept = learner.average.module if learner.average else model
        probabilities = self.fabric.broadcast(self.predict(kept, self.turn.watched))
        y, loss = self.learning.y[self.turn.watched], check_finite(torch.stack(losses), probabilities)
        figures = measure(y, probabilities, self.learning.classes, self.learning.positive)
        progress.history.append(
            {
                "fold": self.turn.fold,
                "epoch": progress.epoch,
                "train_loss": loss,
                "val_loss": multiclass_log_loss(y, probabilities),
                "seconds": seconds,
                "images_per_s": len(self.turn.seen) / seconds,
                **figures,
            }
        )
        if progress.history[-1]["val_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = progress.history[-1]["val_loss"], progress.epoch
            progress.best = copy_state(kept)
        self.reporter.epoch_ended(progress)

    def _steps(self, epoch: int, learner: Learner) -> Iterator[torch.Tensor]:
        """Train one epoch and yield the losses; its draws depend on its number alone, so that resuming repeats them."""
        section, fabric, network, optimizer = self.section, self.fabric, learner.network, learner.optimizer
        seed = int(np.random.SeedSequence([section.seed, epoch, self.turn.fold + 1]).generate_state(1)[0])
        torch.manual_seed(seed + fabric.global_rank)
        rng, numbers = torch.Generator().manual_seed(seed + fabric.global_rank), np.random.default_rng(seed)
        weights = class_weights(self.learning.y[self.turn.seen], len(self.learning.classes))
        order = draw_order(self.turn.seen, self.learning.y, weights if section.balance == "sampler" else None, seed)
        batches = np.array_split(order, self.batches)
        own = [batch[fabric.global_rank :: fabric.world_size] for batch in batches]
        loss_weights = torch.tensor(weights, device=fabric.device, dtype=torch.float32)
        layout = memory_format_of(network, fabric.device)
        loaded = zip(self.reporter.batches(batches, epoch), self.loader.load(own), strict=True)
        for step, (_, (pixels, labels)) in enumerate(loaded, start=epoch * len(batches)):
            learner.schedule.step_update(step + 1)
            targets = one_hot(labels, len(self.learning.classes)).float()
            share = float(numbers.beta(section.mixup, section.mixup)) if section.mixup else 1.0
            images, targets = mix(augment(pixels, section.augment, rng), targets, share=share)
            logits = network(images.contiguous(memory_format=layout))[0]
            loss = cross_entropy(
                logits,
                targets,
                weight=loss_weights if section.balance == "weights" else None,
                label_smoothing=section.label_smoothing,
            )
            fabric.backward(loss)
            if section.clip:
                fabric.clip_gradients(network, optimizer, max_norm=section.clip, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            if learner.average is not None:
                learner.average.update(network.module, step)
            yield loss.detach()

    def predict(self, model: Classifier, rows: Rows) -> FloatArray:
        """Return the probabilities of some rows, without augmentation."""
        model.eval()
        layout = memory_format_of(model, self.fabric.device)
        size, probabilities = self.section.batch_size, []
        for images, _ in self.loader.load([rows[start : start + size] for start in range(0, len(rows), size)]):
            with torch.inference_mode(), self.fabric.autocast():
                logits = model(images.float().contiguous(memory_format=layout))[0]
            probabilities.append(logits.double().softmax(1).cpu().numpy())
        return np.concatenate(probabilities)


def parameter_groups(model: Classifier, section: TrainSection, backbone_factor: float) -> list[dict[str, Any]]:
    """Return the weights to train: the body at its share of the rate; norms and biases do not decay."""
    import_timm()
    from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]

    head = torch.nn.ModuleList(part for name, part in model.named_children() if name != "body")
    rates = ((head, section.learning_rate), (model.body, section.learning_rate * backbone_factor))
    return [
        {**group, "lr": rate} for part, rate in rates for group in param_groups_weight_decay(part, section.weight_decay)
    ]


def make_schedule(optimizer: torch.optim.Optimizer, section: TrainSection, *, steps: int) -> Any:
    """Return timm's schedule of rates, a line up and a cosine down; it depends on the number of the step alone."""
    import_timm()
    from timm.scheduler.cosine_lr import CosineLRScheduler

    warmup = max(1, round(steps * section.warmup))
    # One more step than there are, since the rate of the last would be 0.
    return CosineLRScheduler(
        optimizer, t_initial=steps - warmup + 1, warmup_t=warmup, warmup_prefix=True, t_in_epochs=False
    )


def make_average(model: Classifier, section: TrainSection) -> Any:
    """Return timm's moving average of the weights, or None; its decay rises, so that it forgets the first steps."""
    if not section.ema:
        return None
    import_timm()
    from timm.utils.model_ema import ModelEmaV3

    return ModelEmaV3(model, decay=section.ema, use_warmup=True).requires_grad_(False)


def find_folded_norms(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the batch norms whose statistics are folded into the layer before; batch statistics would undo that."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        and layer.running_var is not None
        and torch.allclose(layer.running_var + layer.eps, torch.ones(()), rtol=0, atol=layer.eps / 10)
    ]


def class_weights(y: IntArray, classes: int) -> FloatArray:
    """Return the weight of each class that gives all classes the same total; the mean over the cases is 1."""
    return np.asarray(len(y) / (classes * np.bincount(y, minlength=classes)))


def draw_order(rows: Rows, y: IntArray, weights: FloatArray | None, seed: int) -> Rows:
    """Return every case once, or, with weights, as many draws in which each class comes equally often."""
    rng = torch.Generator().manual_seed(seed)
    if weights is None:
        return rows[list(RandomSampler(rows, generator=rng))]
    return rows[list(WeightedRandomSampler(weights[y[rows]].tolist(), len(rows), generator=rng))]


def mix(images: torch.Tensor, targets: torch.Tensor, *, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each picture with its neighbour in the batch, and its target alike; a share of 1 changes nothing."""
    # timm's Mixup takes no batch of odd length, and draws from NumPy's global numbers.
    if share == 1:
        return images, targets
    return images.lerp(images.roll(1, 0), 1 - share), targets.lerp(targets.roll(1, 0), 1 - share)


def multiclass_log_loss(y: IntArray, probabilities: FloatArray) -> float:
    """Return the multi-class log loss, whichever classes are positive."""
    return float(case_log_losses(y, probabilities).mean())


def check_finite(losses: torch.Tensor, probabilities: FloatArray) -> float:
    """Return the mean loss of an epoch; raise if the training has diverged."""
    if not (torch.isfinite(losses).all() and np.isfinite(probabilities).all()):
        raise Diverged("The training diverged: the loss is NaN or infinite.", "Lower train.learning_rate.")
    return float(losses.mean())
