"""Converts a torch classifier to one ONNX graph with logits, embedding and class activation map, and runs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from medloop.bundle.decide import FloatArray, IntArray
from medloop.bundle.inputs import model_input
from medloop.bundle.session import open_session
from medloop.decode.rule import Pixels
from medloop.errors import UserError
from medloop.models.augment import Views
from medloop.models.head import Head
from medloop.progress import track

OPSET = 18
OUTPUTS = ("logits", "embedding", "cam")
HEAD = ("head.weight", "head.bias")
BATCH = 16


def image_graph(classifier: torch.nn.Module, pictures: Pixels) -> bytes:
    """Return the classifier in ONNX, for any number of images of this shape."""
    # Two images, since an axis of length one would be exported as fixed.
    example = torch.from_numpy(model_input(np.resize(pictures, (2, *pictures.shape[1:])))["image"])
    with _unfused_attention(classifier), warnings.catch_warnings():
        # The exporter uses functions that torch has deprecated.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # State that a layer keeps for its next call is not exported; check_image_parity shows whether it matters.
        warnings.filterwarnings("ignore", ".* assigned during export", UserWarning)
        program = torch.onnx.export(
            classifier.eval(),
            (example,),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("cases")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto  # type: ignore[union-attr]
    model.producer_name = "medloop"
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@contextmanager
def _unfused_attention(classifier: torch.nn.Module) -> Iterator[None]:
    """Use unfused attention inside the block, since the fused one cannot be exported for every network."""
    fused = [layer for layer in classifier.modules() if getattr(layer, "fused_attn", False) is True]
    for layer in fused:
        layer.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in fused:
            layer.fused_attn = True  # type: ignore[assignment]


def check_image_parity(classifier: torch.nn.Module, graph: bytes, pictures: Pixels, *, bound: float) -> float:
    """Return the largest difference between ONNX and torch, relative to the largest value where that exceeds 1."""
    inputs = model_input(pictures)
    found = open_session(graph, threads=0).run(list(OUTPUTS), inputs)
    with torch.inference_mode():
        expected = [output.numpy() for output in classifier.eval()(torch.from_numpy(inputs["image"]))]
    difference = max(
        float(np.abs(one - other).max() / max(1.0, float(np.abs(other).max())))
        for one, other in zip(found, expected, strict=True)
    )
    if not difference <= bound:
        raise UserError(
            f"The exported model differs from torch by {difference:.2g}, more than {bound:g} (export.parity).",
            "Choose another backbone, since this one cannot be exported faithfully.",
        )
    return difference


def run_images(graph: bytes, images: Pixels, rows: Any, *, what: str) -> tuple[FloatArray, FloatArray]:
    """Return logits and embeddings of some rows of the prepared images."""
    session = open_session(graph, threads=0)
    starts = range(0, len(rows), BATCH)
    outputs = [
        session.run(["logits", "embedding"], model_input(np.asarray(images[rows[start : start + BATCH]])))
        for start in track(starts, total=len(starts), what=what)
    ]
    logits, embedding = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return logits, embedding


def run_views(graph: bytes, images: Pixels, rows: IntArray, views: Views, *, what: str) -> Iterator[FloatArray]:
    """Yield the embeddings of the training cases in every view but the first, with the augmentation of the training."""
    session = open_session(graph, threads=0)

    batches = views.batches(len(rows))
    for view in range(1, views.count):
        pictures = (torch.from_numpy(np.asarray(images[rows[some]])).permute(0, 3, 1, 2) for some in batches)
        changed = track(
            views.changed(view, pictures), total=len(batches), what=f"{what}, view {view + 1} of {views.count}"
        )
        embeddings = [
            session.run(["embedding"], {"image": np.ascontiguousarray(part.numpy())})[0]
            for batch in changed
            for part in torch.split(batch, BATCH)
        ]
        yield np.concatenate(embeddings)


def with_head(graph: bytes, head: Head) -> bytes:
    """Return the graph with another head, which the class activation map uses as well."""
    model = onnx.load_from_string(graph)
    stored = {one.name: one for one in model.graph.initializer}
    for name, values in zip(HEAD, (head.weight, head.bias), strict=True):
        if name not in stored or list(stored[name].dims) != list(values.shape):
            raise RuntimeError(f"the graph has no {name} of shape {values.shape}")
        stored[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    return bytes(model.SerializeToString())
