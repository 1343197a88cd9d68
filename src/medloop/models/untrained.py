"""Features of an untrained network, as a baseline: what they separate, no training can take credit for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medloop.models.torchvision_guard import import_timm

Pictures = NDArray[np.uint8]
Features = NDArray[np.float32]
FEATURES = 1024


def untrained_features(*, seed: int = 0, threads: int = 2) -> Callable[[Pictures], Features]:
    """Return a function from grey images (N, H, W) to the features of a ResNet-18 with random weights."""
    import torch

    timm = import_timm()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.create_model("resnet18", pretrained=False, num_classes=0, in_chans=1).eval()

    def features(pictures: Pictures) -> Features:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                grey = torch.from_numpy(pictures).unsqueeze(1).float().div_(255).sub_(0.5).div_(0.25)
                maps = network.forward_features(grey)
                pooled = torch.cat([maps.mean((2, 3)), maps.std((2, 3))], dim=1)
                return np.asarray(pooled.numpy(), np.float32)
        finally:
            torch.set_num_threads(before)

    return features
