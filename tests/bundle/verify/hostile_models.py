"""Bundles whose every checksum is right, and whose model must not serve all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from medloop.bundle import files

Edit = Callable[[Any], None]
FOREVER = 2**62
BOMB_FLOATS = 2**36


def altered(golden: Path, folder: Path, edit: Edit) -> Path:
    """A copy of a bundle with another graph, sealed anew."""
    shutil.copytree(golden, folder)
    model = onnx.load(folder / files.MODEL)
    edit(model)
    (folder / files.MODEL).write_bytes(model.SerializeToString())
    files.seal(folder)
    return folder


def described(golden: Path, folder: Path, **values: Any) -> Path:
    """A copy of a bundle that says something else of how it decides, sealed anew; NaN and infinities included."""
    shutil.copytree(golden, folder)
    meta = json.loads((folder / files.META).read_text("utf-8"))
    for name, value in values.items():
        meta[name] = {**meta[name], **value} if isinstance(value, dict) else value
    (folder / files.META).write_text(json.dumps(meta), "utf-8")
    files.seal(folder)
    return folder


def nan_weights(model: Any) -> None:
    """Every coefficient of the classifier is NaN."""
    (node,) = (node for node in model.graph.node if node.op_type == "LinearClassifier")
    (floats,) = (one.floats for one in node.attribute if one.name == "coefficients")
    floats[:] = [float("nan")] * len(floats)


def nan_scale(model: Any) -> None:
    """The scale of a quantized weight is NaN."""
    scale = next(one for one in model.graph.initializer if one.name.endswith("weight_scale"))
    values = numpy_helper.to_array(scale).copy()
    values[...] = float("nan")
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))


def endless_loop(model: Any) -> None:
    """The logits go around in a loop that never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Neg", ["value"], ["negated"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("negated", TensorProto.FLOAT, None),
        ],
    )
    before = _renamed(model, "logits")
    model.graph.initializer.append(helper.make_tensor("turns", TensorProto.INT64, [], [FOREVER]))
    model.graph.initializer.append(helper.make_tensor("begin", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("Loop", ["turns", "begin", before], ["logits"], body=body))


def memory_bomb(model: Any) -> None:
    """256 GiB of zeros are added to the logits."""
    before = _renamed(model, "logits")
    model.graph.initializer.append(helper.make_tensor("length", TensorProto.INT64, [1], [BOMB_FLOATS]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["length"], ["zeros"]))
    model.graph.node.append(helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", [before, "zero"], ["logits"]))


def external_data(model: Any) -> None:
    """A weight lies in another file."""
    before = _renamed(model, "logits")
    model.graph.initializer.append(_elsewhere())
    model.graph.node.append(helper.make_node("Add", [before, "elsewhere"], ["logits"]))


def external_data_of_any(model: Any) -> None:
    """The same for any table's model: nobody reads the weight."""
    model.graph.initializer.append(_elsewhere())


def nested_external_data(model: Any) -> None:
    """A weight of a branch that is never taken lies in another file."""
    before = _renamed(model, "logits")
    shape = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    constant = helper.make_node("Constant", [], ["out"], value=_elsewhere())
    branches = [helper.make_graph([constant], name, [], [shape]) for name in ("yes", "no")]
    model.graph.initializer.append(helper.make_tensor("never", TensorProto.BOOL, [], [False]))
    model.graph.node.append(
        helper.make_node("If", ["never"], ["more"], then_branch=branches[0], else_branch=branches[1])
    )
    model.graph.node.append(helper.make_node("Add", [before, "more"], ["logits"]))


GRAPHS: dict[str, Edit] = {
    one.__name__: one for one in (nan_weights, endless_loop, memory_bomb, external_data, nested_external_data)
}

DECISIONS: dict[str, dict[str, Any]] = {
    "a threshold above 1": {"threshold": {"value": 1.5}},
    "a threshold below 0": {"threshold": {"value": -0.1}},
    "a threshold that is NaN": {"threshold": {"value": float("nan")}},
    "an infinite temperature": {"calibration": {"temperature": float("inf")}},
    "a temperature that is NaN": {"calibration": {"temperature": float("nan")}},
    "a quantile above 1": {"conformal": {"quantiles": [0.5, 1.5]}},
    "a quantile that is NaN": {"conformal": {"quantiles": [0.5, float("nan")]}},
    "a quantile too few": {"conformal": {"quantiles": [0.5]}},
    "an alpha of 1": {"conformal": {"alpha": 1.0}},
    "an infinite limit": {"outliers": {"limit": float("inf")}},
    "a limit that is NaN": {"outliers": {"limit": float("nan")}},
    "a positive class that is none": {"positive": ["nobody"]},
    "a class named twice": {"classes": ["benign", "benign"]},
}


def _elsewhere() -> TensorProto:
    tensor = TensorProto(name="elsewhere", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "bundle.json"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _renamed(model: Any, output: str) -> str:
    """Give the node that makes an output another name for it, which is returned."""
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == output:
                node.output[place] = f"{output}_before"
    return f"{output}_before"
