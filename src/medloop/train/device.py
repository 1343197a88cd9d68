"""Where and how exactly the network computes: one process, or the many that torchrun started."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medloop.recipe import TrainSection

Precision = Literal["32-true", "bf16-mixed"]
Network = TypeVar("Network", bound=nn.Module)


def make_fabric(model: nn.Module, section: TrainSection) -> Any:
    """Lightning's Fabric on the best device; under torchrun on all devices of all machines."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    world, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    # Some backbones carry a layer behind the maps that the classifier does not use.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if world > 1 else "auto"
    precision = choose_precision(model, section.precision)
    # It tells the precision of every trial and every fold; the plan says it once.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(devices=local, num_nodes=world // local, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def choose_precision(model: nn.Module, wanted: Literal["auto", "fp32", "bf16"]) -> Precision:
    """bf16 where the device has it and the model gains by it."""
    if wanted != "auto":
        return "bf16-mixed" if wanted == "bf16" else "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    # Measured on a processor: ResNets learn 1.7 times faster in bf16, networks of grouped convolutions 1.5 to 4 slower.
    grouped = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in model.modules())
    return "bf16-mixed" if processor_has_bf16() and not grouped else "32-true"


def processor_has_bf16() -> bool:
    """Whether bf16 is computed by the processor and not imitated."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def placed(network: Network, device: torch.device) -> Network:
    """The network on the device, its kernels in the layout in which it is quickest."""
    return network.to(device=device, memory_format=layout_of(network, device))  # type: ignore[call-overload,no-any-return]


def layout_of(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, in which processors and GPUs are quickest, unless that would crash the process."""
    # PyTorch 2.13 frees memory twice where a processor learns a strided 1 x 1 convolution over single channels.
    crashes = device.type == "cpu" and any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels == layer.groups
        for layer in network.modules()
    )
    return torch.contiguous_format if crashes else torch.channels_last


def batch_on(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Prepared pictures N x H x W x C as the network takes them: N x C x H x W, the channels last in memory."""
    return torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2)


def peak_memory(fabric: Any) -> int:
    """The most bytes held so far, on the GPU or by this process."""
    if fabric.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(fabric.device))
    status = Path("/proc/self/status")
    held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("ascii")) if status.is_file() else None
    if held:
        return int(held[1]) * 1024
    import resource

    # Less exact: a process begins with what the one that started it had held.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def exactness(*, deterministic: bool) -> Iterator[None]:
    """Only algorithms that give the same result every time, while the block lasts."""
    if not deterministic:
        yield
        return
    # cuBLAS reads it when the first product is computed.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
