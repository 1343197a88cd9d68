"""Image models: any timm backbone under a linear head, with logits, embedding and class activation map in one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from medloop.errors import UnknownName
from medloop.models.body import BodyKind, make_body
from medloop.models.places import Places, Size, leave_out, see
from medloop.models.torchvision_guard import import_timm

SMALL_PIXELS = 64
Pool = Literal["mean", "attention"]
Output = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Classifier(nn.Module):
    """Pixels of 0 to 255 in; the map is the head applied at every place, and its mean over the places is the logits."""

    def __init__(
        self,
        body: nn.Module,
        *,
        width: int,
        classes: int,
        mean: list[float],
        std: list[float],
        dropout: float = 0.0,
        pool: Pool = "mean",
        places: Places | None = None,
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.body = body
        self.places = places or Places(width=width)
        # Weights of timm's network that have no influence on the map. They are not stored; older files have them.
        self.left_out = left_out
        self.register_load_state_dict_pre_hook(_forget_left_out)  # type: ignore[no-untyped-call]
        self.head = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)
        self.attention = nn.Conv2d(width, 1, 1, bias=False) if pool == "attention" else None
        if self.attention is not None:
            # All places count alike at first, as in the mean.
            nn.init.zeros_(self.attention.weight)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def maps(self, image: torch.Tensor) -> torch.Tensor:
        """What the backbone sees at every place, N x C x h x w."""
        scaled: torch.Tensor = (image - self.mean) / self.std  # type: ignore[operator]
        return self.places.maps(torch.as_tensor(see(self.body, scaled)))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """The mean over the places, each with its weight."""
        return self._weighted(self.maps(image)).mean((2, 3))

    def forward(self, image: torch.Tensor) -> Output:
        """Logits, embedding and class activation map."""
        maps = self._weighted(self.maps(image))
        embedding = maps.mean((2, 3))
        cam = torch.matmul(self.head.weight, maps.flatten(2)).reshape(-1, self.head.out_features, *maps.shape[2:])
        return self.head(self.dropout(embedding)), embedding, cam

    def _weighted(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps times the attention that each place gets, which is 1 in the mean."""
        if self.attention is None:
            return maps
        height, width = maps.shape[2:]
        shares: torch.Tensor = self.attention(maps).flatten(2).softmax(-1)
        return maps * shares.view(-1, 1, height, width) * (height * width)


def build_classifier(
    *,
    classes: int,
    channels: int,
    size: int | Size,
    backbone: str = "resnet18",
    weights: str = "none",
    dropout: float = 0.0,
    stem: Literal["auto", "small", "own"] = "auto",
    stride: int = 0,
    pool: Pool = "mean",
    root: Path = Path(),
) -> Classifier:
    """A classifier on the named backbone; its weights are `imagenet`, `none`, or a safetensors file."""
    _check_name(backbone)
    height, width = (size, size) if isinstance(size, int) else size
    small_stem = stem == "small" or (stem == "auto" and max(height, width) <= SMALL_PIXELS)
    kind = BodyKind(name=backbone, channels=channels, size=(height, width), stride=stride, small_stem=small_stem)
    body, study = make_body(kind, weights, root)
    left_out = leave_out(body, study)
    config = body.pretrained_cfg
    mean, std = (list(config[name]) for name in ("mean", "std"))
    if channels == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return Classifier(
        body,
        width=study.places.width,
        classes=classes,
        mean=mean,
        std=std,
        dropout=dropout,
        pool=pool,
        places=study.places,
        left_out=frozenset(f"body.{name}" for name in left_out),
    )


def _check_name(backbone: str) -> None:
    """Raise unless timm knows the network and, behind a point, the weights of it."""
    timm = import_timm()
    if not timm.is_model(backbone):
        raise UnknownName("model.backbone", backbone, timm.list_models())
    try:
        timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        name = backbone.partition(".")[0]
        known = [name, *timm.list_models(f"{name}.*", pretrained=True)]
        raise UnknownName("model.backbone", backbone, known) from error


def _forget_left_out(module: Classifier, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let weights that were stored before they were left out be read all the same."""
    for name in module.left_out:
        state.pop(f"{prefix}{name}", None)
