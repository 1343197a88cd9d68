"""Builds a timm network without its head, and finds its input size, feature map and weights by running it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medloop.errors import UserError
from medloop.models.places import NoMap, Size, Study, find_places, see, study_body
from medloop.models.torchvision_guard import import_timm

# Sizes to try with a network that needs a fixed or a minimum size.
SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)
STEP = 32
# timm drops the head of a file whose number of classes differs from the body's, which has none.
OTHER_HEAD = {"num_classes": 1}


@dataclass(frozen=True, kw_only=True)
class BodyKind:
    """Everything that decides how a body is built, except its weights."""

    name: str
    channels: int
    size: Size
    stride: int = 0
    small_stem: bool = False


# timm logs the weights of a file that the body does not use, such as its head; missing ones are refused below.
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)

# One run of each kind of body per process is enough.
_STUDIES: dict[BodyKind, Study] = {}


def make_body(kind: BodyKind, weights: str, root: Path) -> tuple[Any, Study]:
    """Return the body with its weights (`imagenet`, `none` or a safetensors file), and its layout found by a run."""
    if weights not in ("none", "imagenet") and not (root / weights).is_file():
        raise UserError(
            f"model.weights is {weights}, but there is no such file.",
            "Use imagenet, none, champion or the path of a safetensors file.",
        )
    options = _cut(kind) if kind.stride else {"num_classes": 0}
    try:
        body = _create(kind, options) if weights == "none" else _pretrained(kind, options, weights, root)
        if kind not in _STUDIES:
            # Trained weights may respond to noise with zeros, so that every weight would seem unused.
            with torch.random.fork_rng(devices=[]):
                plain = body if weights == "none" else _create(kind, options)
            _STUDIES[kind] = study_body(plain, channels=kind.channels, size=kind.size, width=_width(body, kind))
    except NoMap as error:
        raise _refusal(kind, error.detail) from error
    except UserError:
        raise
    except Exception as error:
        raise _refusal(kind, error) from error
    return body, _STUDIES[kind]


def _create(kind: BodyKind, options: dict[str, Any], **loading: Any) -> Any:
    """Return the network, built for the size of the images where it depends on one."""
    options = {"pretrained": False, "in_chans": kind.channels, **options, **loading}
    height, width = kind.size
    timm = import_timm()
    try:
        body = timm.create_model(kind.name, img_size=height if height == width else kind.size, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        body = timm.create_model(kind.name, **options)
    if kind.small_stem:
        _shrink_stem(body)
    return body


def _pretrained(kind: BodyKind, options: dict[str, Any], weights: str, root: Path) -> Any:
    try:
        if weights == "imagenet":
            return _create(kind, options, pretrained=True)
        path = str(root / weights)
        absent = _find_absent(path, kind, options)
        if absent:
            raise _unloadable(kind.name, weights, absent)
        return _create(kind, options, pretrained=True, pretrained_cfg_overlay={"file": path, **OTHER_HEAD})
    except UserError:
        raise
    except Exception as error:
        # If the network cannot be built at this size either way, the weights are not to blame.
        make_body(kind, "none", root)
        raise _unloadable(kind.name, weights, error) from error


def _find_absent(path: str, kind: BodyKind, options: dict[str, Any]) -> str:
    """Return which weights of the body the file lacks, so that timm would leave them random; empty if none."""
    # timm renames and resizes weights as it reads them, so their names do not show it. A copy of the file that holds
    # only NaN is loaded instead: whatever stays a number was not in the file.
    marked = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor
        for name, tensor in import_timm().models.load_state_dict(path).items()
    }
    with torch.random.fork_rng(devices=[]):
        body = _create(kind, options, pretrained=True, pretrained_cfg_overlay={"state_dict": marked, **OTHER_HEAD})
    weights = dict(body.named_parameters())
    absent = [name for name, weight in weights.items() if not weight.isnan().any()]
    return f"it lacks {len(absent)} of {len(weights)} weights, such as {absent[0]}" if absent else ""


def _width(body: Any, kind: BodyKind) -> int:
    return int(body.feature_info.channels()[-1] if kind.stride else body.num_features)


def _cut(kind: BodyKind) -> dict[str, Any]:
    """Return the options with which timm leaves out the stages after the one of this stride."""
    name, timm = kind.name, import_timm()
    try:
        strides = timm.create_model(name, pretrained=False, features_only=True).feature_info.reduction()
    except Exception as error:
        raise UserError(
            f"{name} cannot be cut after a stage (model.stride: {kind.stride}).", "Set model.stride to 0."
        ) from error
    if kind.stride not in strides:
        raise UserError(
            f"model.stride is {kind.stride}, but {name} has {', '.join(map(str, strides))}.",
            "Use one of these, or 0 for the whole network.",
        )
    return {"features_only": True, "out_indices": (strides.index(kind.stride),)}


def _shrink_stem(body: Any) -> None:
    """Replace a ResNet's first layer by one of stride 1 for small images; pretrained weights keep their centre."""
    first = getattr(body, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not hasattr(body, "maxpool"):
        return
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, stride=1, padding=1, bias=False)
    middle = first.kernel_size[0] // 2
    with torch.no_grad():
        small.weight.copy_(first.weight[:, :, middle - 1 : middle + 2, middle - 1 : middle + 2])
    body.conv1, body.maxpool = small, nn.Identity()


def _unloadable(name: str, weights: str, reason: Exception | str) -> UserError:
    if weights != "imagenet":
        return UserError(
            f"The file of model.weights does not fit {name} ({_describe(reason)}).",
            "Set model.backbone to the network that the file is for, or use another file.",
        )
    config = import_timm().get_pretrained_cfg(name)
    if not config.has_weights:
        return UserError(
            f"timm has no ImageNet weights for {name}.",
            "Choose another backbone, or train from random weights with `weights: none`.",
        )
    source = config.hf_hub_id or name
    return UserError(
        f"Could not download {source} from the Hugging Face hub ({type(reason).__name__}).",
        f"Set HF_ENDPOINT to a mirror, or download model.safetensors of {source} elsewhere, put it into the project "
        "and set `weights: model.safetensors`, or train from random weights with `weights: none`.",
    )


def _refusal(kind: BodyKind, reason: Exception | str) -> UserError:
    """Return the error that names the size which the network needs, or that no size fits."""
    described = _describe(reason)
    config = import_timm().get_pretrained_cfg(kind.name)
    native = int(config.input_size[-1])
    side = max(kind.size)
    if kind.size == (native, native) or not _runs(kind, native):
        return UserError(
            f"The backbone {kind.name} has no feature map at any image size ({described}).",
            "Choose another backbone, such as resnet18 or mobilenetv2_100.",
        )
    needed = next((size for size in SIZES if side < size < native and _runs(kind, size)), native)
    word = "at least" if needed != native or _runs(kind, native + STEP) else "exactly"
    return UserError(
        f"The backbone {kind.name} needs images of {word} {needed} x {needed} pixels, but prepare.size is "
        f"{' x '.join(map(str, kind.size))} ({described}).",
        f"Set prepare.size: {needed}, or choose another backbone.",
    )


def _runs(kind: BodyKind, size: int) -> bool:
    """Whether the network has a feature map for square images of this size."""
    other = BodyKind(name=kind.name, channels=kind.channels, size=(size, size), stride=kind.stride)
    try:
        body = _create(other, _cut(kind) if kind.stride else {"num_classes": 0}).eval()
        with torch.inference_mode():
            seen = see(body, torch.zeros(1, kind.channels, size, size))
        find_places(seen, other.size, width=_width(body, kind), body=body)
    except Exception:  # noqa: BLE001 - backbones are many, and each fails in its own way
        return False
    return True


def _describe(reason: Exception | str) -> str:
    """Return the reason, or the type and the first line of an exception."""
    if isinstance(reason, str):
        return reason
    message = (str(reason).strip().splitlines() or [""])[0][:120]
    return f"{type(reason).__name__}: {message}" if message else type(reason).__name__
