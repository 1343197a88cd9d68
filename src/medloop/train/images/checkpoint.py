"""The state of a training after an epoch, in one safetensors file, written atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medloop.storage import atomic_file

State = dict[str, torch.Tensor]


@dataclass
class Progress:
    """The progress of a training; `best` holds the weights of its best epoch."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best: State = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def copy_state(module: torch.nn.Module) -> State:
    """Return a copy of the weights, which later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def write_state(path: Path, state: State, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_file(path) as file:
        # By name, since serialising to bytes first would take the memory twice.
        save_file(plain, file.name, metadata=metadata)


def write_checkpoint(path: Path, progress: Progress, model: State, average: State | None, optimizer: Any) -> None:
    """Write everything that the next epoch starts from."""
    moments = {
        f"{number}.{name}": tensor
        for number, values in optimizer.state_dict()["state"].items()
        for name, tensor in values.items()
    }
    parts = {"model": model, "average": average or {}, "best": progress.best, "optimizer": moments}
    counters = {name: getattr(progress, name) for name in ("epoch", "best_epoch", "best_loss", "history")}
    write_state(
        path,
        {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()},
        {"progress": json.dumps(counters)},
    )


def read_checkpoint(
    path: Path, model: torch.nn.Module, average: torch.nn.Module | None, optimizer: torch.optim.Optimizer
) -> Progress:
    """Load the stored state into model, average and optimizer."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        counters = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    model.load_state_dict(_part(tensors, "model"))
    if average is not None:
        average.load_state_dict(_part(tensors, "average"))
    _restore_moments(optimizer, _part(tensors, "optimizer"))
    return Progress(**counters, best=_part(tensors, "best"))


def _part(tensors: State, part: str) -> State:
    return {name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")}


def _restore_moments(optimizer: torch.optim.Optimizer, moments: State) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for name, tensor in moments.items():
        number, key = name.split(".", maxsplit=1)
        weight = weights[int(number)]
        # A moment has the memory layout of its weight; a step counter is one number and stays on the CPU.
        optimizer.state[weight][key] = torch.empty_like(weight).copy_(tensor) if tensor.ndim else tensor
