"""Image models: any timm backbone under a linear head, with logits, embedding and class activation map in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from medloop.errors import UnknownName, UserError
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
    ) -> None:
        super().__init__()
        self.body = body
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
        # A body that was cut short gives the maps of its last stage in a list.
        whole: Any = getattr(self.body, "forward_features", None)
        seen: torch.Tensor = whole(scaled) if whole else self.body(scaled)[-1]
        if seen.ndim == 3:
            seen = seen[:, getattr(self.body, "num_prefix_tokens", 0) :]
            side = round(seen.shape[1] ** 0.5)
            return torch.as_tensor(seen.transpose(1, 2).reshape(seen.shape[0], seen.shape[2], side, side))
        nhwc = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
        return torch.as_tensor(seen.permute(0, 3, 1, 2) if nhwc else seen)

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
    size: int,
    backbone: str = "resnet18",
    weights: str = "none",
    dropout: float = 0.0,
    stem: Literal["auto", "small", "own"] = "auto",
    stride: int = 0,
    pool: Pool = "mean",
    root: Path = Path(),
) -> Classifier:
    """A classifier on the named backbone; its weights are `imagenet`, `none`, or a safetensors file."""
    timm = import_timm()
    if not timm.is_model(backbone):
        raise UnknownName("model.backbone", backbone, timm.list_models())
    options = _cut(timm, backbone, stride) if stride else {"num_classes": 0}
    body = _create(timm, backbone, weights, channels=channels, size=size, root=root, options=options)
    if hasattr(body, "pre_logits"):
        # VGG's two wide layers behind the maps are 119 of its 134 million weights, and tied to one input size.
        body.pre_logits = nn.Identity()
    if stem == "small" or (stem == "auto" and size <= SMALL_PIXELS):
        _shrink_stem(body)
    config = body.pretrained_cfg
    mean, std = (list(config[name]) for name in ("mean", "std"))
    if channels == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    width = body.feature_info.channels()[-1] if stride else body.num_features
    return Classifier(body, width=int(width), classes=classes, mean=mean, std=std, dropout=dropout, pool=pool)


def _cut(timm: Any, name: str, stride: int) -> dict[str, Any]:
    """What makes timm leave out the stages behind the one whose maps have this stride."""
    try:
        strides = timm.create_model(name, pretrained=False, features_only=True).feature_info.reduction()
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{name} must have stages that it can be cut after", found="none", hint="set model.stride to 0"
        ) from error
    if stride not in strides:
        raise UserError(
            f"model.stride must be one of {name}: 0 (all of it), {', '.join(map(str, strides))}",
            found=str(stride),
            hint="mend it in params.yaml",
        )
    return {"features_only": True, "out_indices": (strides.index(stride),)}


def _create(
    timm: Any, name: str, weights: str, *, channels: int, size: int, root: Path, options: dict[str, Any]
) -> Any:
    options["in_chans"] = channels
    if "img_size" in _arguments(timm, name):
        options["img_size"] = size
    if weights == "none":
        return timm.create_model(name, pretrained=False, **options)
    if weights != "imagenet":
        path = root / weights
        if not path.is_file():
            raise UserError(
                "model.weights must be imagenet, none, champion or a file",
                found=f"no file {weights}",
                hint="check the path",
            )
        return timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path), "num_classes": _classes_in(path)},
            **options,
        )
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:
        raise _unreachable(timm, name, error) from error


def _arguments(timm: Any, name: str) -> Mapping[str, Any]:
    """Whether the model wants to know its input size, as transformers do."""
    import inspect

    if "vit" in name or "deit" in name or "swin" in name or "beit" in name:
        return {"img_size": None}
    return inspect.signature(timm.model_entrypoint(name)).parameters


def _classes_in(path: Path) -> int:
    """How many classes the file's own head has; timm drops that head only if it is told."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        heads = [
            name
            for name in list(file.keys())
            if name in ("classifier.weight", "fc.weight", "head.weight", "head.fc.weight")
        ]
        return int(file.get_slice(heads[0]).get_shape()[0]) if heads else 0


def _unreachable(timm: Any, name: str, error: Exception) -> UserError:
    place = timm.get_pretrained_cfg(name).hf_hub_id or "the place that timm names"
    return UserError(
        f"weights: imagenet needs {place} from the Hugging Face hub",
        found=f"{type(error).__name__}: it cannot be had from here",
        hint=f"set HF_ENDPOINT to a mirror; or fetch model.safetensors of {place} elsewhere, put it into the "
        "project and name it: `weights: model.safetensors`; or learn from nothing: `weights: none`",
    )


def _shrink_stem(body: Any) -> None:
    """For small pictures a ResNet's first layer keeps the size; pretrained weights keep their centre."""
    first = getattr(body, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not hasattr(body, "maxpool"):
        return
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, stride=1, padding=1, bias=False)
    middle = first.kernel_size[0] // 2
    with torch.no_grad():
        small.weight.copy_(first.weight[:, :, middle - 1 : middle + 2, middle - 1 : middle + 2])
    body.conv1, body.maxpool = small, nn.Identity()
