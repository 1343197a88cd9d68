"""What medloop's training is measured against: loops in plain fp32 torch, as tutorials write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import cross_entropy

from medloop.models.backbone import Classifier, build_classifier

BATCH = 32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def build(backbone: str, classes: int, size: int) -> Classifier:
    """The network that medloop starts from with seed 0."""
    torch.manual_seed(0)
    return build_classifier(classes=classes, channels=3, size=size, backbone=backbone)


class PlainHead:
    """A linear head on a frozen backbone: every epoch decodes every picture and runs the backbone over it."""

    def __init__(self, backbone: str, *, classes: int, size: int, paths: Sequence[str], y: Ints) -> None:
        self.body = build(backbone, classes, size).eval().requires_grad_(False)
        torch.manual_seed(0)
        self.head = torch.nn.Linear(self.body.head.in_features, classes)
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=1e-3)
        self.size, self.paths, self.y = size, list(paths), torch.from_numpy(y)
        self.seen = torch.empty(len(paths), self.head.in_features)
        self.epochs = 0

    def epoch(self) -> None:
        """One turn over all pictures in a new order."""
        for rows in self._batches():
            self.seen[rows] = self.features([self.paths[row] for row in rows.tolist()])
            self._step(rows)
        self.epochs += 1

    def go_on_to(self, epochs: int) -> None:
        """The remaining epochs on the features of the last one, which every further one would compute again alike."""
        while self.epochs < epochs:
            for rows in self._batches():
                self._step(rows)
            self.epochs += 1

    def features(self, paths: Sequence[str]) -> torch.Tensor:
        """Decoded, shrunk, stacked, and seen by the backbone."""
        with torch.no_grad():
            return self.body.embed(torch.stack([self._picture(path) for path in paths]))

    def probabilities(self, paths: Sequence[str]) -> Floats:
        """What it says of other pictures."""
        parts = [self.features(paths[start : start + BATCH]) for start in range(0, len(paths), BATCH)]
        with torch.no_grad():
            return np.asarray(self.head(torch.cat(parts)).double().softmax(1).numpy())

    def _picture(self, path: str) -> torch.Tensor:
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((self.size, self.size))
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float()

    def _batches(self) -> Iterator[torch.Tensor]:
        yield from torch.split(torch.randperm(len(self.y)), BATCH)

    def _step(self, rows: torch.Tensor) -> None:
        loss = cross_entropy(self.head(self.seen[rows]), self.y[rows])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


class PlainFinetune:
    """All weights learned from pictures that are decoded and shrunk already."""

    def __init__(self, backbone: str, *, classes: int, pictures: NDArray[np.uint8], y: Ints) -> None:
        self.model = build(backbone, classes, pictures.shape[1])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.pictures, self.y = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y)

    def epoch(self) -> None:
        """One turn over all pictures in a new order."""
        self.model.train()
        for rows in torch.split(torch.randperm(len(self.y)), BATCH):
            loss = cross_entropy(self.model(self.pictures[rows].float())[0], self.y[rows])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
