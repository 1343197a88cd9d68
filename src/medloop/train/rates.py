"""How far each weight moves in a step, and the average that follows the weights."""

from __future__ import annotations

import math
from typing import Any

import torch

from medloop.models.backbone import Classifier
from medloop.recipe import TrainSection


def weight_groups(model: Classifier, section: TrainSection, backbone_factor: float) -> list[dict[str, Any]]:
    """The head at the full rate, the body at its share; norms and biases do not decay."""
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            is_body, decays = name.startswith("body."), weight.ndim > 1
            factor, decay = backbone_factor if is_body else 1.0, section.weight_decay if decays else 0.0
            empty: dict[str, Any] = {"params": [], "factor": factor, "base": section.learning_rate * factor}
            groups.setdefault((is_body, decays), {**empty, "weight_decay": decay})["params"].append(weight)
    return list(groups.values())


def rate_share(step: int, steps: int, warmup: float) -> float:
    """The share of the full rate: up a line, then down a cosine."""
    first = max(1, round(steps * warmup))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def set_rates(optimizer: Any, share: float) -> None:
    """Give every group its share of its own rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * share


@torch.no_grad()
def follow(average: Classifier, model: Classifier, *, decay: float) -> None:
    """Move the average a little towards the model; a decay that rises makes it forget the first steps."""
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)
