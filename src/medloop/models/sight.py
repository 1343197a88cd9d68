"""Where the places of a network's map look: convolutions with a stride look a little beside their cell."""

from __future__ import annotations

import torch

from medloop.models.backbone import Classifier


def map_shift(model: Classifier, images: torch.Tensor) -> tuple[float, float]:
    """How far beside its cell a place looks, down and across, in parts of the picture; the middle places are asked."""
    images = images.clone().requires_grad_()
    maps = model.eval().maps(images)
    found = []
    for row in _middle(maps.shape[2]):
        for column in _middle(maps.shape[3]):
            (slope,) = torch.autograd.grad(maps[:, :, row, column].sum(), images, retain_graph=True)
            seen = slope.square().sum((0, 1)).double()
            found.append([_beside(seen.sum(1), row, maps.shape[2]), _beside(seen.sum(0), column, maps.shape[3])])
    down, across = torch.tensor(found).mean(0).tolist()
    return down, across


def _middle(cells: int) -> range:
    """The places that the border cuts off least, as many on either side of the centre."""
    return range(max(0, cells // 2 - 2), cells - max(0, cells // 2 - 2))


def _beside(seen: torch.Tensor, place: int, cells: int) -> float:
    """The centre of what was seen along one side, less the middle of the cell; 0 where nothing was."""
    total = float(seen.sum())
    if total == 0:
        return 0.0
    middles = (torch.arange(len(seen), dtype=seen.dtype) + 0.5) / len(seen)
    return float((seen * middles).sum()) / total - (place + 0.5) / cells
