"""A timm network without its head, looked at as it is and not by its name: its input size, its map, its weights."""

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

# Sizes that a network of a fixed or least size is tried with.
SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)
STEP = 32
# The head of a file is dropped where it is said to have another number of classes than the body, which has none.
OTHER_HEAD = {"num_classes": 1}


@dataclass(frozen=True, kw_only=True)
class BodyKind:
    """All that decides how a body is built, its weights aside."""

    name: str
    channels: int
    size: Size
    stride: int = 0
    small_stem: bool = False


# It lists the names of a file that the body has no place for, such as its head; what is missing is refused here.
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)

# One run of each kind of body in this process is enough.
_STUDIES: dict[BodyKind, Study] = {}


def make_body(kind: BodyKind, weights: str, root: Path) -> tuple[Any, Study]:
    """The body with its weights - `imagenet`, `none` or a safetensors file - and what a run of it shows."""
    if weights not in ("none", "imagenet") and not (root / weights).is_file():
        raise UserError(
            "model.weights must be imagenet, none, champion or a file",
            found=f"no file {weights}",
            hint="check the path",
        )
    options = _cut(kind) if kind.stride else {"num_classes": 0}
    try:
        body = _create(kind, options) if weights == "none" else _pretrained(kind, options, weights, root)
        if kind not in _STUDIES:
            # Learned weights may answer noise with nothing at all, and then no weight would seem to count.
            with torch.random.fork_rng(devices=[]):
                plain = body if weights == "none" else _create(kind, options)
            _STUDIES[kind] = study_body(plain, channels=kind.channels, size=kind.size, width=_width(body, kind))
    except NoMap as error:
        raise _refusal(kind, error.found) from error
    except UserError:
        raise
    except Exception as error:
        raise _refusal(kind, error) from error
    return body, _STUDIES[kind]


def _create(kind: BodyKind, options: dict[str, Any], **loading: Any) -> Any:
    """The network; one that is made for a certain input size is told the size."""
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
        absent = _not_in(path, kind, options)
        if absent:
            raise _unloadable(kind.name, weights, absent)
        return _create(kind, options, pretrained=True, pretrained_cfg_overlay={"file": path, **OTHER_HEAD})
    except UserError:
        raise
    except Exception as error:
        # Where the network itself cannot be had in this size, its weights are not to blame.
        make_body(kind, "none", root)
        raise _unloadable(kind.name, weights, error) from error


def _not_in(path: str, kind: BodyKind, options: dict[str, Any]) -> str:
    """The weights of the body that timm would leave as chance made them, for the file does not hold them."""
    # timm renames and resizes what it reads, so names do not tell: of nothing but NaN, all that it fills becomes NaN.
    marked = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor
        for name, tensor in import_timm().models.load_state_dict(path).items()
    }
    with torch.random.fork_rng(devices=[]):
        body = _create(kind, options, pretrained=True, pretrained_cfg_overlay={"state_dict": marked, **OTHER_HEAD})
    weights = dict(body.named_parameters())
    absent = [name for name, weight in weights.items() if not weight.isnan().any()]
    return f"no values for {len(absent)} of its {len(weights)} weights, such as {absent[0]}" if absent else ""


def _width(body: Any, kind: BodyKind) -> int:
    return int(body.feature_info.channels()[-1] if kind.stride else body.num_features)


def _cut(kind: BodyKind) -> dict[str, Any]:
    """What makes timm leave out the stages behind the one whose maps have this stride."""
    name, timm = kind.name, import_timm()
    try:
        strides = timm.create_model(name, pretrained=False, features_only=True).feature_info.reduction()
    except Exception as error:
        raise UserError(
            f"{name} must have stages that it can be cut after", found="none", hint="set model.stride to 0"
        ) from error
    if kind.stride not in strides:
        raise UserError(
            f"model.stride must be one of {name}: 0 (all of it), {', '.join(map(str, strides))}",
            found=str(kind.stride),
            hint="mend it in params.yaml",
        )
    return {"features_only": True, "out_indices": (strides.index(kind.stride),)}


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


def _unloadable(name: str, weights: str, reason: Exception | str) -> UserError:
    if weights != "imagenet":
        return UserError(
            f"the file of model.weights must hold weights of {name}",
            found=_found(reason),
            hint="name the backbone that the file is of, or another file",
        )
    config = import_timm().get_pretrained_cfg(name)
    if not config.has_weights:
        return UserError(
            "weights: imagenet needs a backbone that timm has weights for",
            found=f"none for {name}",
            hint="choose another backbone; or learn from nothing: `weights: none`",
        )
    place = config.hf_hub_id or "the place that timm names"
    return UserError(
        f"weights: imagenet needs {place} from the Hugging Face hub",
        found=f"{type(reason).__name__}: it cannot be had from here",
        hint=f"set HF_ENDPOINT to a mirror; or fetch model.safetensors of {place} elsewhere, put it into the "
        "project and name it: `weights: model.safetensors`; or learn from nothing: `weights: none`",
    )


def _refusal(kind: BodyKind, reason: Exception | str) -> UserError:
    """Which size the network needs, or that it fits in none."""
    found = _found(reason)
    config = import_timm().get_pretrained_cfg(kind.name)
    native = int(config.input_size[-1])
    given = max(kind.size)
    if kind.size == (native, native) or not _runs(kind, native):
        return UserError(
            f"the backbone {kind.name} must give one map of places, in pictures of any size",
            found=found,
            hint="choose another backbone, such as resnet18 or mobilenetv2_100",
        )
    needed = next((size for size in SIZES if given < size < native and _runs(kind, size)), native)
    word = "at least" if needed != native or _runs(kind, native + STEP) else "exactly"
    return UserError(
        f"the backbone {kind.name} needs pictures of {word} {needed} x {needed} pixels",
        found=f"prepare.size {' x '.join(map(str, kind.size))} ({found})",
        hint=f"set prepare.size: {needed}, or choose another backbone",
    )


def _runs(kind: BodyKind, size: int) -> bool:
    """Whether the network gives a map for square pictures of this size."""
    other = BodyKind(name=kind.name, channels=kind.channels, size=(size, size), stride=kind.stride)
    try:
        body = _create(other, _cut(kind) if kind.stride else {"num_classes": 0}).eval()
        with torch.inference_mode():
            seen = see(body, torch.zeros(1, kind.channels, size, size))
        find_places(seen, other.size, width=_width(body, kind), body=body)
    except Exception:  # noqa: BLE001 - backbones are many, and each fails in its own way
        return False
    return True


def _found(reason: Exception | str) -> str:
    """The reason; of an error its kind and the first line of what it says."""
    if isinstance(reason, str):
        return reason
    said = (str(reason).strip().splitlines() or [""])[0][:120]
    return f"{type(reason).__name__}: {said}" if said else type(reason).__name__
