"""The features of every image, computed once and cached on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medloop.models.augment import Views
from medloop.models.backbone import Classifier
from medloop.progress import track
from medloop.storage import atomic_file, sha256_bytes
from medloop.train.images.device import memory_format_of, to_device
from medloop.train.images.examples import ImageLearning
from medloop.train.images.loader import BatchLoader

Features = NDArray[np.float32]


def compute_views(
    model: Classifier, learning: ImageLearning, fabric: Any, views: Views, *, cache: Path
) -> Iterator[Features]:
    """Yield the embeddings of all cases, one view at a time."""
    weights = body_fingerprint(model)
    for view in range(views.count):
        parts = [learning.fingerprint, weights, _engine(fabric), *views.key(view)]
        path = cache / f"{sha256_bytes(json.dumps(parts, sort_keys=True).encode())}.npy"
        if not path.is_file():
            features = _embed(model, learning, fabric, views, view)
            with atomic_file(path) as file:
                np.save(file, features, allow_pickle=False)
        yield np.load(path, mmap_mode="r")


def body_fingerprint(model: Classifier) -> str:
    """Return the hash of everything that decides the embedding: the weights and the normalisation of the input."""
    digest = hashlib.sha256(type(model.body).__name__.encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not name.startswith("head."):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _engine(fabric: Any) -> list[str]:
    return [f"torch {torch.__version__}", fabric.device.type, str(fabric._precision.precision)]


def _embed(model: Classifier, learning: ImageLearning, fabric: Any, views: Views, view: int) -> Features:
    model = to_device(model, fabric.device).eval()
    layout = memory_format_of(model, fabric.device)
    count = len(learning.y)
    features = np.empty((count, model.head.in_features), np.float32)
    batches, loader = views.batches(count), BatchLoader(learning, fabric.device)
    changed = views.changed(view, (images for images, _ in loader.load(batches)))
    what = f"features, view {view + 1} of {views.count}"
    for rows, images in track(zip(batches, changed, strict=True), total=len(batches), what=what):
        with torch.inference_mode(), fabric.autocast():
            embedding = model.embed(images.contiguous(memory_format=layout))
        features[rows] = embedding.float().cpu().numpy()
    return features
