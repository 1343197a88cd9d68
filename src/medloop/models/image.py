"""The entry of MODELS for images: any timm backbone, built once the classes and the size of the images are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from medloop.errors import UserError

if TYPE_CHECKING:
    from medloop.models.backbone import Classifier


Dropout = Annotated[float, Field(ge=0, lt=1)]


def backbone(
    *,
    backbone: str = "resnet18",
    weights: str = "none",
    dropout: Dropout = 0.0,
    stem: Literal["auto", "small", "own"] = "auto",
    # The backbone is cut after the stage of this stride; 0 keeps all stages. Early stages see details, not the whole.
    stride: int = 0,
    pool: Literal["mean", "attention"] = "mean",
) -> Callable[..., Any]:
    """Any image backbone of timm under a linear head."""
    options: dict[str, Any] = {"backbone": backbone, "dropout": dropout, "stem": stem, "stride": stride, "pool": pool}
    return partial(build_backbone, weights=weights, **options)


def build_backbone(*, weights: str, root: Path, **options: Any) -> Classifier:
    """Return the classifier; a warm start from a bundle keeps its head where the number of classes is the same."""
    from medloop.models.backbone import build_classifier

    path = root / weights
    if not path.is_file() or not _is_classifier(path):
        return build_classifier(weights=weights, root=root, **options)
    network = build_classifier(weights="none", root=root, **options)
    _load_warm_start(network, path)
    return network


def _is_classifier(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith("body.") for name in file.keys())  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise UserError(
            f"The file of model.weights is not a valid safetensors file ({error}).", "Download or export it again."
        ) from error


def _load_warm_start(network: Classifier, path: Path) -> None:
    from safetensors.torch import load_file

    own = network.state_dict()
    stored = {name: value for name, value in load_file(path).items() if name not in network.left_out}
    heads = {name for name in own if name.startswith("head.")}
    misfits = [name for name in own.keys() | stored.keys() if name not in own or name not in stored]
    misfits += [name for name in own.keys() & stored.keys() if own[name].shape != stored[name].shape]
    if misfits := sorted(set(misfits) - heads):
        raise UserError(
            f"{len(misfits)} weights of the warm start differ from the network in name or shape, such as {misfits[0]}.",
            "Set model.backbone, model.stem and prepare.channels as they were when the weights were trained.",
        )
    fits = all(name in stored and own[name].shape == stored[name].shape for name in heads)
    network.load_state_dict({name: stored[name] if fits or name not in heads else own[name] for name in own})
