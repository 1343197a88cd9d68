"""The pictures of a batch are the same however many processes read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medloop.train.images.loader import BatchLoader
from tests.train.images.pictures import read_pictures

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [None, 2])
def test_batches_come_in_order_however_many_workers_read_them(workers: int | None, pictures: Path) -> None:
    learning = read_pictures(pictures)
    loader = BatchLoader(learning, CPU, workers=workers)
    rng = np.random.default_rng(0)
    for _ in range(2):
        batches = np.array_split(rng.permutation(len(learning.y)), 5)
        loaded = list(loader.load(batches))
        assert len(loaded) == len(batches)
        for rows, (images, labels) in zip(batches, loaded, strict=True):
            assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), learning.pixels(rows))
            assert np.array_equal(labels.numpy(), learning.y[rows])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_was_broken_off_leaves_nothing_behind(workers: int, pictures: Path) -> None:
    learning = read_pictures(pictures)
    loader = BatchLoader(learning, CPU, workers=workers)
    next(loader.load([np.arange(4), np.arange(8)]))
    ((images, _),) = loader.load([np.arange(3)])
    assert len(images) == 3


def test_loading_takes_no_draw_from_the_training(pictures: Path) -> None:
    learning = read_pictures(pictures)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(BatchLoader(learning, CPU).load([np.arange(4)]))
    assert torch.rand(1) == expected
