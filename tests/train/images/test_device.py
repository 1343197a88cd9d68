"""The peak memory of a process, and the memory layout of a network."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from medloop.train.images.device import memory_format_of

GIBIBYTE = 2**30
PROGRAM = """
from types import SimpleNamespace
from medloop.train.images.device import peak_memory
print(peak_memory(SimpleNamespace(device=SimpleNamespace(type="cpu"))))
"""


def test_the_peak_of_a_process_is_its_own_and_not_that_of_its_parent() -> None:
    held = b"x" * (2 * GIBIBYTE)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert len(held) == 2 * GIBIBYTE
    assert 2**26 < int(done.stdout) < GIBIBYTE


LEARNING = """
import torch
from torch import nn
from medloop.train.images.device import memory_format_of, to_device
network, device = nn.Conv2d({channels}, 48, 1, stride=2, groups={groups}, bias=False), torch.device("cpu")
network = to_device(network, device)
for _ in range(8):
    images = torch.randn(2, {channels}, 96, 96).contiguous(memory_format=memory_format_of(network, device))
    network(images).sum().backward()
"""


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (48, 48)])
def test_no_strided_convolution_over_single_channels_crashes_the_process(channels: int, groups: int) -> None:
    program = LEARNING.format(channels=channels, groups=groups)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_networks_learn_with_the_channels_last() -> None:
    strided = nn.Conv2d(3, 8, 1, stride=2)
    assert memory_format_of(strided, torch.device("cpu")) == torch.channels_last
    assert memory_format_of(nn.Conv2d(1, 8, 1, stride=2), torch.device("cuda")) == torch.channels_last
