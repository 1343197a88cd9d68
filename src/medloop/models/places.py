"""How the output of a body becomes a feature map, and which of its weights have an influence on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call

from medloop.errors import UserError

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]
Size = tuple[int, int]
# Class and register tokens that a network may put before its places.
MAX_PREFIX = 8
# A weight has no influence if its gradient is zero for this many random settings of the others.
ROUNDS = 6


class NoMap(UserError):
    """A network whose output is not one feature map."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"The network has no feature map ({detail}).", "Choose another backbone.")
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Places:
    """The layout of the output: the order of its axes, its channels, and the tokens before its places."""

    width: int
    layout: Layout = "NCHW"
    prefix: int = 0
    # Rows over columns of places, which a sequence of tokens does not show.
    ratio: float = 1.0

    def maps(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the output as N x C x h x w."""
        if self.layout == "NCHW":
            return seen
        if self.layout == "NHWC":
            return seen.permute(0, 3, 1, 2)
        tokens = (seen.transpose(1, 2) if self.layout == "NLC" else seen)[:, :, self.prefix :]
        rows = round((tokens.shape[2] * self.ratio) ** 0.5)
        return tokens.reshape(tokens.shape[0], tokens.shape[1], rows, tokens.shape[2] // rows)


@dataclass(frozen=True, kw_only=True)
class Study:
    """The layout of a body's output and its unused weights, found by running it."""

    places: Places
    # Parameters without influence on the feature map, and modules that hold only such parameters and do not run.
    unused: tuple[str, ...]
    idle: tuple[str, ...]


def see(body: nn.Module, images: torch.Tensor) -> Any:
    """Return the body's output before any pooling; one that was cut has a list with the map of its last stage."""
    whole: Any = getattr(body, "forward_features", None)
    return whole(images) if whole else body(images)[-1]


def study_body(body: Any, *, channels: int, size: Size, width: int) -> Study:
    """Run the body on noise as in training, without changing it."""
    with _as_in_training(body), _calls(body) as called:
        images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            seen = _run(body, images, dict(body.named_parameters()))
        places = find_places(seen, size, width=width, body=body)
        gradients = _gradients(body, images, places, turn=0)
        unused = [name for name, gradient in gradients.items() if _is_zero(gradient)]
        for turn in range(1, ROUNDS):
            if all(gradients[name] is None for name in unused):
                break
            gradients = _gradients(body, images, places, turn=turn)
            unused = [name for name in unused if _is_zero(gradients[name])]
        if len(unused) == len(gradients):
            # The body does not respond to noise, so nothing can be concluded.
            unused = []
    return Study(places=places, unused=tuple(unused), idle=tuple(_idle(body, set(unused), called)))


def find_places(seen: Any, size: Size, *, width: int, body: nn.Module) -> Places:
    """Return the layout of an output of this shape, given the expected number of channels."""
    if not isinstance(seen, torch.Tensor):
        raise NoMap(f"{len(seen)} outputs" if isinstance(seen, (list, tuple)) else type(seen).__name__)
    shape = tuple(seen.shape)
    if len(shape) == 4:
        is_last = shape[3] == width if (shape[1] == width) != (shape[3] == width) else _is_channels_last(body)
        return Places(width=shape[3] if is_last else shape[1], layout="NHWC" if is_last else "NCHW")
    if len(shape) != 3:
        raise NoMap(f"an output of shape {shape}")
    layout: Layout = "NCL" if shape[1] == width != shape[2] else "NLC"
    channels, tokens = (shape[1], shape[2]) if layout == "NCL" else (shape[2], shape[1])
    named = int(getattr(body, "num_prefix_tokens", 0))
    for prefix in (named, *range(MAX_PREFIX)):
        if _is_grid(tokens - prefix, size):
            return Places(width=channels, layout=layout, prefix=prefix, ratio=size[0] / size[1])
    raise NoMap(f"{tokens} tokens that form no grid")


def leave_out(body: nn.Module, study: Study) -> frozenset[str]:
    """Remove the unused weights from the body's parameters and stored state, and return their names."""
    before = set(body.state_dict())
    for name in study.idle:
        body.set_submodule(name, nn.Identity())
    kept = dict(body.named_parameters())
    owners: set[nn.Module] = set()
    for path in filter(kept.__contains__, study.unused):
        parent, _, name = path.rpartition(".")
        owner = body.get_submodule(parent)
        delattr(owner, name)
        # The layer still runs, to no effect, so its weights have to stay.
        owner.register_buffer(name, kept[path].detach(), persistent=False)
        owners.add(owner)
    for owner in owners:
        if not list(owner.parameters(recurse=False)):
            for name, buffer in list(owner.named_buffers(recurse=False)):
                owner.register_buffer(name, buffer, persistent=False)
    return frozenset(before - set(body.state_dict()))


def _is_grid(tokens: int, size: Size) -> bool:
    """Whether this many tokens form rows and columns in the proportions of the image."""
    rows = round((max(tokens, 0) * size[0] / size[1]) ** 0.5)
    return bool(rows > 0 and tokens % rows == 0 and round(tokens / rows * size[0] / size[1]) == rows)


def _is_channels_last(body: Any) -> bool:
    return str(getattr(body, "output_fmt", "NCHW")) == "NHWC"


class _FeatureMap(nn.Module):
    """The body as a module that returns its output before pooling."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> Any:
        return see(self.body, images)


def _run(body: nn.Module, images: torch.Tensor, values: Mapping[str, torch.Tensor]) -> Any:
    """Return the output with other values for the parameters; running statistics change in a copy."""
    buffers = {name: buffer.clone() for name, buffer in body.named_buffers()}
    state = {f"body.{name}": value for name, value in {**values, **buffers}.items()}
    return functional_call(_FeatureMap(body), state, (images,))


def _gradients(body: nn.Module, images: torch.Tensor, places: Places, *, turn: int) -> dict[str, torch.Tensor | None]:
    """Return the gradient of a random sum of the map for every parameter; from the second turn on with noise added."""
    rng = torch.Generator().manual_seed(turn)
    values = {name: _with_noise(value.detach(), rng, turn=turn) for name, value in body.named_parameters()}
    maps = places.maps(_run(body, images, values))
    total = (maps * torch.randn(maps.shape, generator=rng)).sum()
    gradients = torch.autograd.grad(total, list(values.values()), allow_unused=True)
    return dict(zip(values, gradients, strict=True))


def _with_noise(value: torch.Tensor, rng: torch.Generator, *, turn: int) -> torch.Tensor:
    """Return the values, with noise from the second turn on and wherever all are zero, as in new residual branches."""
    spread = float(value.std()) if value.numel() > 1 else float(value.abs().max())
    if not value.any() or turn:
        value = value + (spread or 0.1) * torch.randn(value.shape, generator=rng)
    # Tensors created in inference mode take no gradient.
    return (value.clone() if value.is_inference() else value).requires_grad_()


def _is_zero(gradient: torch.Tensor | None) -> bool:
    return gradient is None or not bool(gradient.any())


def _idle(body: nn.Module, unused: set[str], called: set[str]) -> Iterator[str]:
    """Yield the outermost modules whose weights are all unused and of which no part ran."""
    weights_of = {
        path: {f"{path}.{name}" for name, _ in module.named_parameters()}
        for path, module in body.named_modules()
        if path
    }
    found: list[str] = []
    for path, names in weights_of.items():
        within = any(path.startswith(f"{outer}.") for outer in found)
        ran = any(one == path or one.startswith(f"{path}.") for one in called)
        if names and names <= unused and not within and not ran:
            found.append(path)
    yield from found


@contextmanager
def _calls(body: nn.Module) -> Iterator[set[str]]:
    """Collect the names of the modules that run inside the block."""
    called: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, path=path: called.add(path))
        for path, module in body.named_modules()
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _as_in_training(body: nn.Module) -> Iterator[None]:
    """Put the body into training mode inside the block, without touching the caller's random numbers."""
    before = body.training
    with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False), torch.enable_grad():
        torch.manual_seed(0)
        body.train()
        try:
            yield
        finally:
            body.train(before)
