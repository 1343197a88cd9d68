"""Whether a network can be exported at all, asked before it has cost a training."""

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
# What decides the graph; the weights and the share that is dropped out do not.
FORM = ("backbone", "stem", "stride", "pool")
PARITY = 1e-4
# A heatmap of fewer places a side hardly shows where.
LEAST_PLACES = 3


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How far an untrained network's graph is from torch, and the rows and columns of its map."""

    parity: float
    places: tuple[int, int]


def try_export(
    name: str, params: Mapping[str, Any], *, shape: tuple[int, int, int], bound: float = PARITY, cache: Path
) -> Trial:
    """Export an untrained network of this form, or what the cache says of one, and warn of a coarse map."""
    params = hyperparameters(name, params)
    versions = [f"{library} {importlib.metadata.version(library)}" for library in LIBRARIES]
    parts = [name, [params[key] for key in FORM], list(shape), bound, *versions]
    path = cache / "export_trials" / f"{sha256_bytes(json.dumps(parts).encode())[:32]}.json"
    if path.is_file():
        content = read_json(path)
        trial = Trial(parity=content["parity"], places=(content["places"][0], content["places"][1]))
    else:
        trial = _export(name, tuple((key, params[key]) for key in FORM), shape, bound)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(trial))
    if warning := coarse(str(params["backbone"]), trial.places, shape):
        sys.stderr.write(f"{warning}\n")
    return trial


def coarse(backbone: str, places: tuple[int, int], shape: tuple[int, int, int]) -> str | None:
    """What to say of a map too coarse to show where; None of any other."""
    fewest = min(places)
    if fewest >= LEAST_PLACES:
        return None
    enough = max(shape[:2]) * LEAST_PLACES // fewest
    return (
        f"coarse heatmaps: {backbone} sees pictures of {shape[0]} x {shape[1]} as {places[0]} x {places[1]} places; "
        f"prepare.size: {enough} would give about {LEAST_PLACES} x {LEAST_PLACES}"
    )


@once
def _export(name: str, form: tuple[tuple[str, Any], ...], shape: tuple[int, int, int], bound: float) -> Trial:
    import torch

    from medloop.bundle.export_onnx import check_image_parity, image_graph

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
        said = (str(error).strip().splitlines() or [""])[0][:120]
        raise UserError(
            f"the backbone {dict(form)['backbone']} must be exportable to ONNX",
            found=f"{type(error).__name__}: {said}",
            hint="choose another backbone, such as resnet18 or mobilenetv2_100",
        ) from error
    return Trial(parity=parity, places=(int(places[0]), int(places[1])))
