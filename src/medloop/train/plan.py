"""What a training will take, said before it begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medloop.models.backbone import Classifier
from medloop.recipe import TrainSection
from medloop.train.device import batch_on, layout_of, placed
from medloop.train.image_learning import ImageLearning, Turn

FLOAT = 4
PROBE = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sizes that decide memory and time."""

    mode: str
    device: str
    precision: str
    parameters: int
    learned: int
    images: int
    watched: int
    passes: int
    memory: int

    def __str__(self) -> str:
        """The plan in three lines."""
        each = f"{self.passes} epochs" if self.mode == "finetune" else f"{self.passes} view(s), each computed once"
        return (
            f"{self.mode} on {self.device} in {self.precision}: "
            f"{self.parameters:,} parameters, {self.learned:,} learned\n"
            f"{self.images} images to learn from, {self.watched} to choose on, {each}\n"
            f"peak memory about {self.memory / 2**20:,.0f} MiB"
        )


def make_plan(model: Classifier, learning: ImageLearning, turn: Turn, section: TrainSection, fabric: Any) -> Plan:
    """The plan for one model; the memory of its activations is measured on two pictures."""
    parameters = sum(weight.numel() for weight in model.parameters())
    frozen = section.mode == "head" or section.freeze
    return Plan(
        mode=section.mode,
        device=fabric.device.type if fabric.world_size == 1 else f"{fabric.world_size} x {fabric.device.type}",
        precision=str(fabric._precision.precision),
        parameters=parameters,
        learned=sum(weight.numel() for weight in model.head.parameters()) if frozen else parameters,
        images=len(turn.seen),
        watched=len(turn.watched),
        passes=section.epochs if section.mode == "finetune" else section.views,
        memory=_memory(model, learning, section, fabric, parameters=parameters),
    )


def _memory(model: Classifier, learning: ImageLearning, section: TrainSection, fabric: Any, *, parameters: int) -> int:
    fixed, each, widest = activation_bytes(model, learning, fabric, learns=section.mode == "finetune")
    on_gpu = fabric.device.type == "cuda"
    held = parameters * FLOAT if on_gpu else resident_bytes()
    batch = min(section.batch_size, len(learning.y))
    if section.mode == "head":
        features = 0 if on_gpu else section.views * len(learning.y) * model.head.in_features
        # Stored in four bytes and, while the head is fitted, copied and standardised in eight.
        return held + 2 * widest * batch + features * (FLOAT + 2 * 2 * FLOAT)
    # Gradients, the two moments and the best epoch; with ema the average besides.
    copies = (4 + bool(section.ema)) * parameters * FLOAT
    # A checkpoint puts the tensors in a row, and no allocator gives back at once what a step held.
    writing = 0 if on_gpu else copies
    return held + copies + fixed + each * batch + max(widest * batch, writing)


def activation_bytes(model: Classifier, learning: ImageLearning, fabric: Any, *, learns: bool) -> tuple[int, int, int]:
    """Bytes kept for the way back: whatever the batch, by picture, and of the widest layer of one picture."""
    totals, widest = [], 0
    model = placed(model, fabric.device).eval()
    own = {weight.untyped_storage().data_ptr() for weight in model.state_dict().values()}
    for count in (1, PROBE):
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            # A step's own output would keep the step that keeps it, for ever.
            return tensor.detach()

        images = batch_on(learning.pixels(np.arange(count) % len(learning.y)), fabric.device).float()
        with torch.enable_grad(), fabric.autocast(), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            model(images.contiguous(memory_format=layout_of(model, fabric.device)))
        totals.append(sum(kept.values()))
        widest = max(kept.values()) // count
    each = totals[1] - totals[0]
    return (totals[0] - each, each, widest) if learns else (0, 0, widest)


def resident_bytes() -> int:
    """What this process holds now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no file on a disk
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0
