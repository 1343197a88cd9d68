"""The entry of MODELS for images: any timm backbone, made when the classes and the pictures are known."""

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
    # The backbone ends where its maps have this stride; 0: all of it. Early stages see details and not the whole.
    stride: int = 0,
    pool: Literal["mean", "attention"] = "mean",
) -> Callable[..., Any]:
    """Any image backbone of timm under a linear head; what is given back takes classes, channels, size and root."""
    options: dict[str, Any] = {"backbone": backbone, "dropout": dropout, "stem": stem, "stride": stride, "pool": pool}
    return partial(build_started, weights=weights, **options)


def build_started(*, weights: str, root: Path, **options: Any) -> Classifier:
    """The classifier; the weights of a bundle (a warm start) go on with its head where the classes are as many."""
    from medloop.models.backbone import build_classifier

    path = root / weights
    if not path.is_file() or not _is_classifier(path):
        return build_classifier(weights=weights, root=root, **options)
    network = build_classifier(weights="none", root=root, **options)
    _go_on_from(network, path)
    return network


def _is_classifier(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return any(name.startswith("body.") for name in file.keys())  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise UserError(
            "the file of model.weights must be safetensors", found=str(error), hint="fetch or export it again"
        ) from error


def _go_on_from(network: Classifier, path: Path) -> None:
    from safetensors.torch import load_file

    own = network.state_dict()
    stored = {name: value for name, value in load_file(path).items() if name not in network.left_out}
    heads = {name for name in own if name.startswith("head.")}
    strange = [name for name in own.keys() | stored.keys() if name not in own or name not in stored]
    strange += [name for name in own.keys() & stored.keys() if own[name].shape != stored[name].shape]
    if strange := sorted(set(strange) - heads):
        raise UserError(
            "a warm start needs weights of the same backbone, channels and stem",
            found=f"{len(strange)} that do not fit, such as {strange[0]}",
            hint="set model.backbone, model.stem and prepare.channels as they were",
        )
    fits = all(name in stored and own[name].shape == stored[name].shape for name in heads)
    network.load_state_dict({name: stored[name] if fits or name not in heads else own[name] for name in own})
