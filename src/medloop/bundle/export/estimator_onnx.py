"""Converts a fitted scikit-learn pipeline to one ONNX graph with an input per column, and checks its parity."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from medloop.bundle.calibrate import MIN_PROBABILITY, log_probabilities
from medloop.errors import UserError
from medloop.models.pipeline import model_columns

OPSET = {"": 18, "ai.onnx.ml": 3}


def table_graph(pipeline: Any, kinds: Mapping[str, str]) -> onnx.ModelProto:
    """Return the pipeline in ONNX, with the columns as inputs and `logits` and `embedding` as outputs."""
    short = model_columns(kinds)
    prepare, estimate = pipeline.named_steps["prepare"], pipeline.named_steps["estimate"]
    width = len(prepare.get_feature_names_out())
    first = _converted(prepare, {short[name]: kinds[name] for name in kinds}, name="prepare")
    second = _converted(estimate, {"prepared": width}, name="estimate")
    own = "medloop/"
    while any(name.startswith(own) for name in kinds):
        own = f"_{own}"
    first = onnx.compose.add_prefix(first, f"{own}prepare/")
    second = onnx.compose.add_prefix(second, f"{own}estimate/")
    prepared, probabilities = first.graph.output[0].name, f"{own}estimate/probabilities"
    merged = onnx.compose.merge_models(
        first, second, io_map=[(prepared, f"{own}estimate/prepared")], outputs=[probabilities]
    )
    _rename_inputs(merged.graph, {f"{own}prepare/{short[name]}": name for name in kinds})
    _finish(merged.graph, prepared, width, own=own)
    merged.producer_name = "medloop"
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _converted(part: Any, inputs: Mapping[str, str | int], *, name: str) -> onnx.ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    types: list[tuple[str, Any]] = []
    for column, kind in inputs.items():
        width = kind if isinstance(kind, int) else 1
        types.append((column, StringTensorType([None, 1]) if kind == "category" else FloatTensorType([None, width])))
    options = {id(part): {"zipmap": False}} if hasattr(part, "predict_proba") else None
    with warnings.catch_warnings():
        # skl2onnx reads attributes of SVC that scikit-learn has deprecated.
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*prob[AB]_.*")
        # With a fixed name, since the default one is random and no two exports would be identical.
        converted: onnx.ModelProto = convert_sklearn(
            part, name=name, initial_types=types, options=options, target_opset=OPSET
        )
    # skl2onnx declares the lowest opset that the nodes need, but both halves must declare the same one to be merged.
    del converted.opset_import[:]
    converted.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in OPSET.items())
    return converted


def _rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in graph.input:
        value.name = names[value.name]
    for node in graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = names.get(name, name)


def _finish(graph: onnx.GraphProto, prepared: str, width: int, *, own: str) -> None:
    """Add the outputs: log probabilities as logits, and the prepared columns as embedding."""
    probabilities = graph.output.pop()
    smallest, one, clipped = (f"{own}{name}" for name in ("smallest", "one", "clipped"))
    classes = probabilities.type.tensor_type.shape.dim[1].dim_value
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(MIN_PROBABILITY, np.float32), smallest),
            numpy_helper.from_array(np.array(1, np.float32), one),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Clip", [probabilities.name, smallest, one], [clipped]),
            helper.make_node("Log", [clipped], ["logits"]),
            helper.make_node("Identity", [prepared], ["embedding"]),
        ]
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, classes or None]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None, width]),
        ]
    )


def run_graph(model: bytes, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return logits and embedding of prepared inputs."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits, embedding = session.run(["logits", "embedding"], dict(inputs))
    return logits, embedding


def check_parity(pipeline: Any, frame: pd.DataFrame, logits: Any, *, bound: float, name: str) -> float:
    """Return the largest difference between ONNX and scikit-learn; raise if it exceeds the bound."""
    expected = np.exp(log_probabilities(pipeline.predict_proba(frame)))
    difference = float(np.abs(np.exp(logits.astype(np.float64)) - expected).max())
    if not difference <= bound:
        raise UserError(
            f"The exported {name} differs from scikit-learn by {difference:.2g}, more than {bound:g} (export.parity).",
            "Choose another model, since this one cannot be exported faithfully.",
        )
    return difference
