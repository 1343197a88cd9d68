"""The shift of a map is that of the convolutions behind it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medloop.models.backbone import Classifier, map_shift


class Stages(nn.ModuleList):
    """As timm gives a backbone that was cut short: the maps of each stage, in a list."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        for stage in self:
            images = stage(images)
        return [images]


def conv(*, stride: int, size: int) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, size, stride=stride, padding=(size - 1) // 2, bias=False)
    nn.init.ones_(layer.weight)
    return layer


def shift_of(*layers: nn.Module) -> tuple[float, float]:
    return map_shift(Classifier(Stages(layers), width=1, classes=2, mean=[0.5], std=[0.5]), torch.rand(3, 1, 32, 32))


def test_patches_look_where_their_cell_is() -> None:
    assert shift_of(nn.AvgPool2d(4)) == pytest.approx((0, 0), abs=1e-6)


def test_a_stride_of_two_looks_half_a_pixel_up_and_left() -> None:
    assert shift_of(conv(stride=2, size=3)) == pytest.approx((-0.5 / 32, -0.5 / 32), abs=1e-6)
    assert shift_of(conv(stride=2, size=3), conv(stride=2, size=3)) == pytest.approx((-1.5 / 32,) * 2, abs=1e-6)


def test_a_network_that_sees_nothing_looks_nowhere() -> None:
    layer = conv(stride=2, size=3)
    nn.init.zeros_(layer.weight)
    assert shift_of(layer) == (0, 0)
