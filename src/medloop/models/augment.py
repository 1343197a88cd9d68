"""Random augmentation of a batch of images, drawn for each image within the limits of the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

from medloop.recipe import AugmentSection

Rows = NDArray[np.int64]
PLAIN = AugmentSection(rotate=0, shift=0, scale=0, brightness=0, contrast=0, noise=0)


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views of each image: the image itself, then augmented ones, the same whenever they are drawn."""

    count: int
    augment: AugmentSection
    seed: int
    batch_size: int

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Views:
        """Return the views that `to_json` described."""
        return cls(**{**content, "augment": AugmentSection(**content["augment"])})

    def to_json(self) -> dict[str, Any]:
        """Return everything that the draws depend on."""
        return {**asdict(self), "augment": self.augment.model_dump(mode="json")}

    def key(self, view: int) -> list[Any]:
        """Return what distinguishes a view from any other view of the same images."""
        section, seed = self._drawn(view)
        return [section.model_dump(mode="json"), seed, self.batch_size]

    def batches(self, count: int) -> list[Rows]:
        """Return the rows of each batch; the draws depend on the batch size."""
        return [np.arange(start, min(start + self.batch_size, count)) for start in range(0, count, self.batch_size)]

    def changed(self, view: int, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield each batch as this view shows it."""
        section, seed = self._drawn(view)
        rng = torch.Generator().manual_seed(seed)
        for images in batches:
            yield augment(images, section, rng)

    def _drawn(self, view: int) -> tuple[AugmentSection, int]:
        return (self.augment, self.seed * 1000 + view) if view else (PLAIN, 0)


def augment(images: torch.Tensor, section: AugmentSection, rng: torch.Generator) -> torch.Tensor:
    """Return the images (0 to 255, N x C x H x W) with random geometry, contrast, brightness and noise."""
    changed = images.float()
    if section.flip_horizontal or section.flip_vertical or section.rotate or section.shift or section.scale:
        height, width = images.shape[2:]
        moves = draw_moves(len(images), section, rng, height=height, width=width).to(images.device)
        grid = affine_grid(moves, list(images.shape), align_corners=False)
        # What comes in from outside the image is black, like the padding that prepare adds.
        changed = grid_sample(changed, grid, align_corners=False)
    if section.contrast or section.brightness:
        changed = _change_grey_levels(changed, section, rng)
    if section.noise:
        changed = changed + torch.randn(changed.shape, generator=rng).to(changed.device) * 255 * section.noise
    return changed.clamp(0, 255)


def draw_moves(count: int, section: AugmentSection, rng: torch.Generator, *, height: int, width: int) -> torch.Tensor:
    """Return one 2 x 3 affine matrix for each image, from output to input coordinates of -1 to 1."""
    angle = torch.deg2rad(_draw_within(count, section.rotate, rng))
    size = 1 + _draw_within(count, section.scale, rng)
    shift = torch.stack([_draw_within(count, 2 * section.shift, rng), _draw_within(count, 2 * section.shift, rng)], 1)
    flips = [_draw_flips(count, rng, wanted=wanted) for wanted in (section.flip_horizontal, section.flip_vertical)]
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    # Coordinates are relative to height and width: without the ratio, a rotation would shear.
    columns = [
        torch.stack([cosine, sine * width / height], 1) * flips[0][:, None],
        torch.stack([-sine * height / width, cosine], 1) * flips[1][:, None],
        shift,
    ]
    return torch.stack(columns, 2)


def _change_grey_levels(images: torch.Tensor, section: AugmentSection, rng: torch.Generator) -> torch.Tensor:
    contrast = (1 + _draw_within(len(images), section.contrast, rng)).view(-1, 1, 1, 1).to(images.device)
    brightness = (255 * _draw_within(len(images), section.brightness, rng)).view(-1, 1, 1, 1).to(images.device)
    middle = images.mean((1, 2, 3), keepdim=True)
    return (images - middle) * contrast + middle + brightness


def _draw_within(count: int, limit: float, rng: torch.Generator) -> torch.Tensor:
    # Drawn on the CPU, for the same draws on every device, and drawn even where the limit is 0, so that one setting
    # does not shift the draws of another.
    return (torch.rand(count, generator=rng) * 2 - 1) * limit


def _draw_flips(count: int, rng: torch.Generator, *, wanted: bool) -> torch.Tensor:
    draws = torch.rand(count, generator=rng) < 0.5
    return torch.where(draws & wanted, -1.0, 1.0)
