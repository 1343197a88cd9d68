"""Tests before a training whether the network can be exported."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np

from medloop.errors import UserError
from medloop.models import find_model, hyperparameters
from medloop.storage import read_json, sha256_bytes, write_json

LIBRARIES = ("torch", "timm", "onnx", "onnxruntime", "onnxscript")
# Hyperparameters that do not change the graph.
NOT_IN_GRAPH = frozenset({"weights", "dropout"})
PARITY = 1e-4
# A heatmap with fewer places per side hardly shows the location.
MIN_PLACES = 3


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The difference of an untrained network's graph from torch, and the rows and columns of its map."""

    parity: float
    places: tuple[int, int]


def try_export(
    name: str, params: Mapping[str, Any], *, shape: tuple[int, int, int], bound: float = PARITY, cache: Path
) -> Trial:
    """Export an untrained network with these hyperparameters, unless cached, and warn of a coarse map."""
    params = {key: value for key, value in hyperparameters(name, params).items() if key not in NOT_IN_GRAPH}
    versions = [f"{library} {importlib.metadata.version(library)}" for library in LIBRARIES]
    parts = [name, params, list(shape), bound, *versions]
    path = cache / "export_trials" / f"{sha256_bytes(json.dumps(parts, sort_keys=True).encode())[:32]}.json"
    if path.is_file():
        content = read_json(path)
        trial = Trial(parity=content["parity"], places=(content["places"][0], content["places"][1]))
    else:
        trial = _export(name, tuple(sorted(params.items())), shape, bound)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(trial))
    if warning := warn_of_coarse_map(str(params.get("backbone", name)), trial.places, shape):
        sys.stderr.write(f"{warning}\n")
    return trial


def warn_of_coarse_map(backbone: str, places: tuple[int, int], shape: tuple[int, int, int]) -> str | None:
    """Return a warning if the map is too coarse to show a location, else None."""
    smallest = min(places)
    if smallest >= MIN_PLACES:
        return None
    enough = max(shape[:2]) * MIN_PLACES // smallest
    return (
        f"warning: heatmaps will be coarse, since {backbone} has {places[0]} x {places[1]} places for images of "
        f"{shape[0]} x {shape[1]}; with prepare.size: {enough} there are about {MIN_PLACES} x {MIN_PLACES}"
    )


@once
def _export(name: str, form: tuple[tuple[str, Any], ...], shape: tuple[int, int, int], bound: float) -> Trial:
    import torch

    from medloop.bundle.export.network_onnx import check_image_parity, image_graph

    height, width, channels = shape
    pictures = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make = find_model(name).build(**dict(form))
        network = make(classes=2, channels=channels, size=(height, width), root=Path())
    with torch.inference_mode():
        places = network.eval().maps(torch.zeros(1, channels, height, width)).shape[2:]
    try:
        graph = image_graph(network, pictures)
        parity = check_image_parity(network, graph, pictures, bound=bound)
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:120]
        raise UserError(
            f"{dict(form).get('backbone', name)} cannot be exported to ONNX ({type(error).__name__}: {reason}).",
            "Choose another backbone, such as resnet18 or mobilenetv2_100.",
        ) from error
    return Trial(parity=parity, places=(int(places[0]), int(places[1])))
