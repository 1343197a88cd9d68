"""What the backbone sees in every picture, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
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
from medloop.train.device import batch_on, layout_of, placed
from medloop.train.image_learning import ImageLearning

Features = NDArray[np.float32]


def compute_views(
    model: Classifier, learning: ImageLearning, fabric: Any, views: Views, *, cache: Path
) -> Iterator[Features]:
    """The embeddings of every case, a view at a time."""
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
    """The name of all that decides the embedding: every weight of the body and the normalisation of its input."""
    digest = hashlib.sha256(type(model.body).__name__.encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not name.startswith("head."):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _engine(fabric: Any) -> list[str]:
    return [f"torch {torch.__version__}", fabric.device.type, str(fabric._precision.precision)]


def _embed(model: Classifier, learning: ImageLearning, fabric: Any, views: Views, view: int) -> Features:
    model = placed(model, fabric.device).eval()
    layout = layout_of(model, fabric.device)
    count = len(learning.y)
    features = np.empty((count, model.head.in_features), np.float32)
    batches = views.batches(view, lambda rows: batch_on(learning.pixels(rows), fabric.device), count)
    total = math.ceil(count / views.batch_size)
    for rows, images in track(batches, total=total, what=f"features, view {view + 1} of {views.count}"):
        with torch.inference_mode(), fabric.autocast():
            seen = model.embed(images.contiguous(memory_format=layout))
        features[rows] = seen.float().cpu().numpy()
    return features
