"""Batches of images on the training device; on a GPU, worker processes read ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from medloop.cores import cores
from medloop.train.images.device import batch_on
from medloop.train.images.examples import ImageLearning, Rows

MAX_WORKERS = 4
Batch = tuple[torch.Tensor, torch.Tensor]


class BatchLoader:
    """Loads batches of images and labels, the same whatever the number of workers."""

    def __init__(self, learning: ImageLearning, device: torch.device, *, workers: int | None = None) -> None:
        self.device = device
        self._order: list[Rows] = []
        if workers is None:
            # On a CPU, workers would take cores from the network, and the memory-mapped array is read quickly anyway.
            workers = min(MAX_WORKERS, cores()) if device.type == "cuda" else 0
        self._loader: DataLoader[Batch] = DataLoader(
            _Images(learning),
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            # Forked workers share the memory map; others would get a copy of the whole array.
            multiprocessing_context="fork" if workers else None,
            # Its own, so that it does not change the random numbers of the training.
            generator=torch.Generator(),
        )

    def load(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """Yield the images (N x C x H x W) and labels of each batch of rows."""
        self._order[:] = batches
        for pixels, y in self._loader:
            yield batch_on(pixels, self.device), y.to(self.device, non_blocking=True)


class _Images(Dataset[Batch]):
    """The cases, read by batches of rows."""

    def __init__(self, learning: ImageLearning) -> None:
        self.learning = learning

    def __getitem__(self, rows: Rows) -> Batch:
        return torch.from_numpy(self.learning.pixels(rows)), torch.from_numpy(self.learning.y[rows])
