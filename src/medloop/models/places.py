"""How the output of a timm body becomes a map of places, and which of its weights take part in that."""

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
# As many class and register tokens as a network may put before its places.
MOST_PREFIX = 8
# A weight whose gradient is zero for so many random settings of the others has no influence.
ROUNDS = 6


class NoMap(UserError):
    """A network whose output is no single map of places."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """The order of the output's axes, its channels, and the tokens before its places."""

    width: int
    layout: Layout = "NCHW"
    prefix: int = 0
    # Rows of places for each column, which tokens do not tell.
    ratio: float = 1.0

    def maps(self, seen: torch.Tensor) -> torch.Tensor:
        """The same as N x C x h x w."""
        if self.layout == "NCHW":
            return seen
        if self.layout == "NHWC":
            return seen.permute(0, 3, 1, 2)
        tokens = (seen.transpose(1, 2) if self.layout == "NLC" else seen)[:, :, self.prefix :]
        rows = round((tokens.shape[2] * self.ratio) ** 0.5)
        return tokens.reshape(tokens.shape[0], tokens.shape[1], rows, tokens.shape[2] // rows)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What one run of a body has shown."""

    places: Places
    # Parameters without influence on the places, and the modules among theirs that do not even run.
    unused: tuple[str, ...]
    idle: tuple[str, ...]


def see(body: nn.Module, images: torch.Tensor) -> Any:
    """The body's output before any pooling; one that was cut short gives the maps of its last stage in a list."""
    whole: Any = getattr(body, "forward_features", None)
    return whole(images) if whole else body(images)[-1]


def study_body(body: Any, *, channels: int, size: Size, width: int) -> Study:
    """Run the body on noise as in training, and leave it as it was."""
    with _as_in_training(body), _calls(body) as called:
        images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            seen = _run(body, images, dict(body.named_parameters()))
        places = find_places(seen, size, width=width, body=body)
        slopes = _slopes(body, images, places, turn=0)
        unused = [name for name, slope in slopes.items() if _is_zero(slope)]
        for turn in range(1, ROUNDS):
            if all(slopes[name] is None for name in unused):
                break
            slopes = _slopes(body, images, places, turn=turn)
            unused = [name for name in unused if _is_zero(slopes[name])]
        if len(unused) == len(slopes):
            # Noise has shown nothing.
            unused = []
    return Study(places=places, unused=tuple(unused), idle=tuple(_idle(body, set(unused), called)))


def find_places(seen: Any, size: Size, *, width: int, body: nn.Module) -> Places:
    """What the shape of an output tells, given how many channels are expected."""
    if not isinstance(seen, torch.Tensor):
        raise _no_map(f"{len(seen)} outputs" if isinstance(seen, (list, tuple)) else type(seen).__name__)
    shape = tuple(seen.shape)
    if len(shape) == 4:
        is_last = shape[3] == width if (shape[1] == width) != (shape[3] == width) else _says_last(body)
        return Places(width=shape[3] if is_last else shape[1], layout="NHWC" if is_last else "NCHW")
    if len(shape) != 3:
        raise _no_map(f"an output of shape {shape}")
    layout: Layout = "NCL" if shape[1] == width != shape[2] else "NLC"
    channels, tokens = (shape[1], shape[2]) if layout == "NCL" else (shape[2], shape[1])
    named = int(getattr(body, "num_prefix_tokens", 0))
    for prefix in (named, *range(MOST_PREFIX)):
        if _is_grid(tokens - prefix, size):
            return Places(width=channels, layout=layout, prefix=prefix, ratio=size[0] / size[1])
    raise _no_map(f"{tokens} tokens that form no grid")


def leave_out(body: nn.Module, study: Study) -> frozenset[str]:
    """Take the unused weights out of the body's parameters and its stored state; their names are returned."""
    before = set(body.state_dict())
    for name in study.idle:
        body.set_submodule(name, nn.Identity())
    kept = dict(body.named_parameters())
    owners: set[nn.Module] = set()
    for path in filter(kept.__contains__, study.unused):
        parent, _, name = path.rpartition(".")
        owner = body.get_submodule(parent)
        delattr(owner, name)
        # The layer still runs, to no effect, so what it multiplies with has to stay.
        owner.register_buffer(name, kept[path].detach(), persistent=False)
        owners.add(owner)
    for owner in owners:
        if not list(owner.parameters(recurse=False)):
            for name, buffer in list(owner.named_buffers(recurse=False)):
                owner.register_buffer(name, buffer, persistent=False)
    return frozenset(before - set(body.state_dict()))


def _is_grid(tokens: int, size: Size) -> bool:
    """Whether so many tokens are rows and columns in the picture's proportions."""
    rows = round((max(tokens, 0) * size[0] / size[1]) ** 0.5)
    return bool(rows > 0 and tokens % rows == 0 and round(tokens / rows * size[0] / size[1]) == rows)


def _says_last(body: Any) -> bool:
    return str(getattr(body, "output_fmt", "NCHW")) == "NHWC"


def _no_map(found: str) -> NoMap:
    return NoMap("an image model must give one map of places", found=found, hint="choose another backbone")


class _Seer(nn.Module):
    """The body as a module whose call is what the classifier asks of it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> Any:
        return see(self.body, images)


def _run(body: nn.Module, images: torch.Tensor, values: Mapping[str, torch.Tensor]) -> Any:
    """The output with other values for the parameters; what batches move is a copy."""
    buffers = {name: buffer.clone() for name, buffer in body.named_buffers()}
    state = {f"body.{name}": value for name, value in {**values, **buffers}.items()}
    return functional_call(_Seer(body), state, (images,))


def _slopes(body: nn.Module, images: torch.Tensor, places: Places, *, turn: int) -> dict[str, torch.Tensor | None]:
    """The gradient of a random sum of the map for every parameter; after the first turn all of them are shaken."""
    rng = torch.Generator().manual_seed(turn)
    values = {name: _shaken(value.detach(), rng, turn=turn) for name, value in body.named_parameters()}
    maps = places.maps(_run(body, images, values))
    total = (maps * torch.randn(maps.shape, generator=rng)).sum()
    slopes = torch.autograd.grad(total, list(values.values()), allow_unused=True)
    return dict(zip(values, slopes, strict=True))


def _shaken(value: torch.Tensor, rng: torch.Generator, *, turn: int) -> torch.Tensor:
    """The values themselves; shaken, or where they are all zero, as residual branches begin, in every turn."""
    spread = float(value.std()) if value.numel() > 1 else float(value.abs().max())
    if not value.any() or turn:
        value = value + (spread or 0.1) * torch.randn(value.shape, generator=rng)
    # Weights that were made for inference alone take no gradient.
    return (value.clone() if value.is_inference() else value).requires_grad_()


def _is_zero(slope: torch.Tensor | None) -> bool:
    return slope is None or not bool(slope.any())


def _idle(body: nn.Module, unused: set[str], called: set[str]) -> Iterator[str]:
    """The outermost modules that have weights, none of them used, and of which no part ran."""
    weighty = {
        path: {f"{path}.{name}" for name, _ in module.named_parameters()}
        for path, module in body.named_modules()
        if path
    }
    found: list[str] = []
    for path, names in weighty.items():
        within = any(path.startswith(f"{outer}.") for outer in found)
        ran = any(one == path or one.startswith(f"{path}.") for one in called)
        if names and names <= unused and not within and not ran:
            found.append(path)
    yield from found


@contextmanager
def _calls(body: nn.Module) -> Iterator[set[str]]:
    """The names of the modules that run while the block lasts."""
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
    """Layers behave as in training, and no draw is taken from the training's own."""
    before = body.training
    with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False), torch.enable_grad():
        torch.manual_seed(0)
        body.train()
        try:
            yield
        finally:
            body.train(before)
