"""What the backbone sees in every picture, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medloop.models.backbone import Classifier
from medloop.progress import track
from medloop.recipe import AugmentSection
from medloop.storage import atomic_file, sha256_bytes
from medloop.train.augment import augment
from medloop.train.device import batch_on, placed
from medloop.train.image_learning import ImageLearning

Features = NDArray[np.float32]
PLAIN = AugmentSection(rotate=0, shift=0, scale=0, brightness=0, contrast=0, noise=0)


def compute_views(
    model: Classifier,
    learning: ImageLearning,
    fabric: Any,
    *,
    views: int,
    section: AugmentSection,
    seed: int,
    batch_size: int,
    cache: Path,
) -> Iterator[Features]:
    """The embeddings of every case, a view at a time: first of the picture as it is, then of changed ones."""
    weights = body_fingerprint(model)
    for view in range(views):
        change = section if view else PLAIN
        draw = seed * 1000 + view if view else 0
        parts = [learning.fingerprint, weights, _engine(fabric), change.model_dump(mode="json"), draw, batch_size]
        path = cache / f"{sha256_bytes(json.dumps(parts, sort_keys=True).encode())}.npy"
        if not path.is_file():
            what = f"features, view {view + 1} of {views}"
            features = _embed(model, learning, fabric, section=change, seed=draw, batch_size=batch_size, what=what)
            with atomic_file(path) as file:
                np.save(file, features, allow_pickle=False)
        yield np.load(path, mmap_mode="r")


def body_fingerprint(model: Classifier) -> str:
    """The name of all that decides the embedding: every weight of the body and the normalisation of its input."""
    digest = hashlib.sha256(type(model.body).__name__.encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith("head."):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _engine(fabric: Any) -> list[str]:
    return [f"torch {torch.__version__}", fabric.device.type, str(fabric._precision.precision)]


def _embed(
    model: Classifier,
    learning: ImageLearning,
    fabric: Any,
    *,
    section: AugmentSection,
    seed: int,
    batch_size: int,
    what: str,
) -> Features:
    model = placed(model, fabric.device).eval()
    features = np.empty((len(learning.y), model.head.in_features), np.float32)
    rng = torch.Generator().manual_seed(seed)
    starts = range(0, len(learning.y), batch_size)
    for start in track(starts, total=len(starts), what=what):
        rows = np.arange(start, min(start + batch_size, len(learning.y)))
        with torch.inference_mode(), fabric.autocast():
            images = augment(batch_on(learning.pixels(rows), fabric.device), section, rng)
            seen = model.embed(images.contiguous(memory_format=torch.channels_last))
        features[rows] = seen.float().cpu().numpy()
    return features
