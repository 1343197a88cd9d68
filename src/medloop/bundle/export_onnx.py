"""A torch classifier -> one ONNX graph with logits, embedding and class activation map, checked for parity."""

from __future__ import annotations

import math
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
from medloop.errors import UserError
from medloop.models.augment import Views
from medloop.models.head import Head
from medloop.prepare.rule import Pixels
from medloop.progress import track

OPSET = 18
OUTPUTS = ("logits", "embedding", "cam")
HEAD = ("head.weight", "head.bias")
AT_ONCE = 16


def image_graph(classifier: torch.nn.Module, pictures: Pixels) -> bytes:
    """The classifier in ONNX, for any number of pictures of this shape."""
    # Two pictures: an axis of length one would be taken for fixed.
    example = torch.from_numpy(model_input(np.resize(pictures, (2, *pictures.shape[1:])))["image"])
    with _plain_attention(classifier), warnings.catch_warnings():
        # The exporter uses what torch itself announces to remove.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # What a layer keeps for its next call is no part of a graph; check_image_parity tells whether it mattered.
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
def _plain_attention(classifier: torch.nn.Module) -> Iterator[None]:
    """Attention in single steps while the block lasts: the fused one is not written to ONNX in every network."""
    fused = [layer for layer in classifier.modules() if getattr(layer, "fused_attn", False) is True]
    for layer in fused:
        layer.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in fused:
            layer.fused_attn = True  # type: ignore[assignment]


def check_image_parity(classifier: torch.nn.Module, graph: bytes, pictures: Pixels, *, bound: float) -> float:
    """The largest difference between ONNX and torch, in parts of the largest value where that exceeds 1."""
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
            f"the exported model must agree with torch within {bound:g} (export.parity)",
            found=f"it differs by {difference:.2g}",
            hint="choose another backbone; one that cannot be exported faithfully cannot be served",
        )
    return difference


def run_images(graph: bytes, images: Pixels, rows: Any, *, what: str) -> tuple[FloatArray, FloatArray]:
    """Logits and embedding of some rows of the prepared images, as the bundle will give them."""
    session = open_session(graph, threads=0)
    starts = range(0, len(rows), AT_ONCE)
    answers = [
        session.run(["logits", "embedding"], model_input(np.asarray(images[rows[start : start + AT_ONCE]])))
        for start in track(starts, total=len(starts), what=what)
    ]
    logits, embedding = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    return logits, embedding


def run_views(graph: bytes, images: Pixels, rows: IntArray, views: Views, *, what: str) -> Iterator[FloatArray]:
    """Embeddings of the cases that a head learns from in every view but the plain one, changed as training did."""
    session = open_session(graph, threads=0)

    def pictures(some: IntArray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(images[rows[some]])).permute(0, 3, 1, 2)

    total = math.ceil(len(rows) / views.batch_size)
    for view in range(1, views.count):
        drawn = views.batches(view, pictures, len(rows))
        batches = [
            session.run(["embedding"], {"image": np.ascontiguousarray(part.numpy())})[0]
            for _, changed in track(drawn, total=total, what=f"{what}, view {view + 1} of {views.count}")
            for part in torch.split(changed, AT_ONCE)
        ]
        yield np.concatenate(batches)


def with_head(graph: bytes, head: Head) -> bytes:
    """The graph with another head; the map is made of the same weights."""
    model = onnx.load_from_string(graph)
    stored = {one.name: one for one in model.graph.initializer}
    for name, values in zip(HEAD, (head.weight, head.bias), strict=True):
        if name not in stored or list(stored[name].dims) != list(values.shape):
            raise RuntimeError(f"the graph has no {name} of shape {values.shape}")
        stored[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    return bytes(model.SerializeToString())
