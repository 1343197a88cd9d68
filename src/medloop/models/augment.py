"""Random changes of a batch of pictures, drawn per picture, within what the recipe allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    """How often each picture is seen: first as it is, then changed; drawn in the same batches, always the same."""

    count: int
    augment: AugmentSection
    seed: int
    batch_size: int

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Views:
        """The views that `to_json` described."""
        return cls(**{**content, "augment": AugmentSection(**content["augment"])})

    def to_json(self) -> dict[str, Any]:
        """All that decides the draws."""
        return {**asdict(self), "augment": self.augment.model_dump(mode="json")}

    def key(self, view: int) -> list[Any]:
        """What tells one view from any other of the same pictures."""
        section, seed = self._drawn(view)
        return [section.model_dump(mode="json"), seed, self.batch_size]

    def batches(
        self, view: int, pictures: Callable[[Rows], torch.Tensor], count: int
    ) -> Iterator[tuple[Rows, torch.Tensor]]:
        """All pictures of one view with their rows."""
        section, seed = self._drawn(view)
        rng = torch.Generator().manual_seed(seed)
        for start in range(0, count, self.batch_size):
            rows = np.arange(start, min(start + self.batch_size, count))
            yield rows, augment(pictures(rows), section, rng)

    def _drawn(self, view: int) -> tuple[AugmentSection, int]:
        return (self.augment, self.seed * 1000 + view) if view else (PLAIN, 0)


def augment(images: torch.Tensor, section: AugmentSection, rng: torch.Generator) -> torch.Tensor:
    """Pictures of 0 to 255, N x C x H x W, moved and made lighter or darker; the same draws on every device."""
    changed = images.float()
    if section.flip_horizontal or section.flip_vertical or section.rotate or section.shift or section.scale:
        height, width = images.shape[2:]
        moves = draw_moves(len(images), section, rng, height=height, width=width).to(images.device)
        grid = affine_grid(moves, list(images.shape), align_corners=False)
        # What comes in from outside is black, as the border is that prepare puts around a picture.
        changed = grid_sample(changed, grid, align_corners=False)
    if section.contrast or section.brightness:
        changed = _shade(changed, section, rng)
    if section.noise:
        changed = changed + torch.randn(changed.shape, generator=rng).to(changed.device) * 255 * section.noise
    return changed.clamp(0, 255)


def draw_moves(count: int, section: AugmentSection, rng: torch.Generator, *, height: int, width: int) -> torch.Tensor:
    """One 2 x 3 matrix a picture, from the places of the result to those of the source, in half sides."""
    angle = torch.deg2rad(_between(count, section.rotate, rng))
    size = 1 + _between(count, section.scale, rng)
    shift = torch.stack([_between(count, 2 * section.shift, rng), _between(count, 2 * section.shift, rng)], 1)
    flips = [_signs(count, rng, wanted=wanted) for wanted in (section.flip_horizontal, section.flip_vertical)]
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    # Half a height is not half a width: without the ratio a turn would shear.
    columns = [
        torch.stack([cosine, sine * width / height], 1) * flips[0][:, None],
        torch.stack([-sine * height / width, cosine], 1) * flips[1][:, None],
        shift,
    ]
    return torch.stack(columns, 2)


def _shade(images: torch.Tensor, section: AugmentSection, rng: torch.Generator) -> torch.Tensor:
    contrast = (1 + _between(len(images), section.contrast, rng)).view(-1, 1, 1, 1).to(images.device)
    brightness = (255 * _between(len(images), section.brightness, rng)).view(-1, 1, 1, 1).to(images.device)
    middle = images.mean((1, 2, 3), keepdim=True)
    return (images - middle) * contrast + middle + brightness


def _between(count: int, limit: float, rng: torch.Generator) -> torch.Tensor:
    # Drawn on the processor also where nothing changes, so that one setting does not shift the draws of another.
    return (torch.rand(count, generator=rng) * 2 - 1) * limit


def _signs(count: int, rng: torch.Generator, *, wanted: bool) -> torch.Tensor:
    draws = torch.rand(count, generator=rng) < 0.5
    return torch.where(draws & wanted, -1.0, 1.0)
