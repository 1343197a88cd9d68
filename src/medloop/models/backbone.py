"""Image models: a backbone under a linear head, with logits, embedding and class activation map in one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from medloop.errors import UnknownName
from medloop.models.body import BodyKind, make_body
from medloop.models.places import Places, Size, Study, leave_out, see, study_body
from medloop.models.torchvision_guard import import_timm

MAX_SMALL_STEM_SIDE = 64
Pool = Literal["mean", "attention"]
Output = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Classifier(nn.Module):
    """A backbone and a linear head, for pixels of 0 to 255.

    The class activation map is the head applied at every place of the feature map; its mean plus the bias is the logit.
    """

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
        # Weights of the body that have no influence on the map. They are not stored, but older files have them.
        self.left_out = left_out
        self.register_load_state_dict_pre_hook(_drop_left_out)  # type: ignore[no-untyped-call]
        self.head = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)
        self.attention = nn.Conv2d(width, 1, 1, bias=False) if pool == "attention" else None
        if self.attention is not None:
            # All places have the same weight at first, as in the mean.
            nn.init.zeros_(self.attention.weight)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def maps(self, image: torch.Tensor) -> torch.Tensor:
        """Return the feature map of the backbone, N x C x h x w."""
        scaled: torch.Tensor = (image - self.mean) / self.std  # type: ignore[operator]
        return self.places.maps(torch.as_tensor(see(self.body, scaled)))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of the feature map over its places."""
        return self._weighted(self.maps(image)).mean((2, 3))

    def forward(self, image: torch.Tensor) -> Output:
        """Return logits, embedding and class activation map."""
        maps = self._weighted(self.maps(image))
        embedding = maps.mean((2, 3))
        cam = torch.matmul(self.head.weight, maps.flatten(2)).reshape(-1, self.head.out_features, *maps.shape[2:])
        return self.head(self.dropout(embedding)), embedding, cam

    def _weighted(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the feature map times the attention of each place, whose mean is 1."""
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
    """Return a classifier on a timm backbone; its weights are `imagenet`, `none`, or a safetensors file."""
    _check_name(backbone)
    height, width = (size, size) if isinstance(size, int) else size
    small_stem = stem == "small" or (stem == "auto" and max(height, width) <= MAX_SMALL_STEM_SIDE)
    kind = BodyKind(name=backbone, channels=channels, size=(height, width), stride=stride, small_stem=small_stem)
    body, study = make_body(kind, weights, root)
    config = body.pretrained_cfg
    mean, std = (list(config[name]) for name in ("mean", "std"))
    if channels == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return _classifier_on(body, study, classes=classes, mean=mean, std=std, dropout=dropout, pool=pool)


def classifier_on(body: nn.Module, *, width: int, channels: int, size: Size, **options: Any) -> Classifier:
    """Return a classifier on a network of your own, whose `forward_features` has one map of `width` channels.

    The other options are those of `Classifier`: classes, mean and std of each channel (0 to 1), dropout and pool.
    """
    study = study_body(body, channels=channels, size=size, width=width)
    return _classifier_on(body, study, **options)


def _classifier_on(body: nn.Module, study: Study, **options: Any) -> Classifier:
    unused = leave_out(body, study)
    return Classifier(
        body,
        width=study.places.width,
        places=study.places,
        left_out=frozenset(f"body.{name}" for name in unused),
        **options,
    )


def _check_name(backbone: str) -> None:
    """Raise unless timm knows the network and, after a dot, its weights."""
    timm = import_timm()
    if not timm.is_model(backbone):
        raise UnknownName("model.backbone", backbone, timm.list_models())
    try:
        timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        name = backbone.partition(".")[0]
        known = [name, *timm.list_models(f"{name}.*", pretrained=True)]
        raise UnknownName("model.backbone", backbone, known) from error


def _drop_left_out(module: Classifier, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Ignore stored weights that are now left out."""
    for name in module.left_out:
        state.pop(f"{prefix}{name}", None)


def map_shift(model: Classifier, images: torch.Tensor) -> tuple[float, float]:
    """Return how far from its cell a place of the map looks, down and across, in parts of the picture.

    Strided convolutions look a little to one side. The mean is taken over the middle places, which the border affects
    least.
    """
    images = images.clone().requires_grad_()
    maps = model.eval().maps(images)
    offsets = []
    for row in _middle(maps.shape[2]):
        for column in _middle(maps.shape[3]):
            (slope,) = torch.autograd.grad(maps[:, :, row, column].sum(), images, retain_graph=True)
            influence = slope.square().sum((0, 1)).double()
            offsets.append(
                [
                    _offset(influence.sum(1), row, maps.shape[2]),
                    _offset(influence.sum(0), column, maps.shape[3]),
                ]
            )
    down, across = torch.tensor(offsets).mean(0).tolist()
    return down, across


def _middle(cells: int) -> range:
    """Return up to five places around the centre, as many on either side."""
    return range(max(0, cells // 2 - 2), cells - max(0, cells // 2 - 2))


def _offset(influence: torch.Tensor, place: int, cells: int) -> float:
    """Return the centre of the influence along one side, less the middle of the cell; 0 where there is none."""
    total = float(influence.sum())
    if total == 0:
        return 0.0
    middles = (torch.arange(len(influence), dtype=influence.dtype) + 0.5) / len(influence)
    return float((influence * middles).sum()) / total - (place + 0.5) / cells
