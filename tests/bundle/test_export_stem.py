"""The first convolution gives the same sums over folded pixels, and stays as it is where they cannot be folded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medloop.bundle.export_stem import fold_stem
from medloop.bundle.session import open_session


def network(
    kernel: tuple[int, int],
    pads: tuple[int, int, int, int],
    *,
    size: tuple[int, int] = (12, 16),
    channels: int = 3,
    group: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, channels // group, *kernel)).astype(np.float32)
    stored = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones(6, np.float32), "b")]
    way = {"strides": [2, 2]} | attributes
    nodes = [
        helper.make_node("Relu", ["image"], ["seen"], name="relu"),
        helper.make_node("Conv", ["seen", "w", "b"], ["maps"], name="first", pads=pads, group=group, **way),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["cases", channels, *size])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["cases", 6, None, None])
    graph = helper.make_graph(nodes, "network", [given], [maps], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answer(model: onnx.ModelProto, channels: int = 3, size: tuple[int, int] = (12, 16)) -> Any:
    onnx.checker.check_model(model, full_check=True)
    image = np.random.default_rng(1).normal(size=(2, channels, *size)).astype(np.float32)
    return open_session(model.SerializeToString(), threads=1).run(["maps"], {"image": image})[0]


@pytest.mark.parametrize(
    ("kernel", "pads"),
    [
        ((7, 7), (3, 3, 3, 3)),
        ((3, 3), (1, 1, 1, 1)),
        ((3, 3), (0, 0, 1, 1)),
        ((3, 3), (0, 0, 0, 0)),
        ((2, 2), (0, 0, 0, 0)),
        ((1, 1), (0, 0, 0, 0)),
        ((5, 4), (2, 1, 2, 1)),
        ((6, 3), (1, 4, 2, 0)),
    ],
)
def test_the_sums_stay_the_same(kernel: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    model = network(kernel, pads)
    before = answer(model)
    fold_stem(model)
    assert [node.op_type for node in model.graph.node] == ["Relu", "SpaceToDepth", "Conv"]
    assert np.allclose(answer(model), before, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"strides": [1, 1]},
        {"strides": [2, 1]},
        {"dilations": [2, 2]},
        {"size": (13, 16)},
        {"channels": 6},
        {"group": 3},
    ],
    ids=str,
)
def test_another_convolution_stays_as_it_is(other: dict[str, Any]) -> None:
    model = network((3, 3), (1, 1, 1, 1), **other)
    before = model.SerializeToString()
    fold_stem(model)
    assert model.SerializeToString() == before


def test_weights_that_another_step_takes_stay_as_they_are() -> None:
    model = network((3, 3), (1, 1, 1, 1))
    model.graph.node.append(helper.make_node("Identity", ["w"], ["copy"], name="copy"))
    before = model.SerializeToString()
    fold_stem(model)
    assert model.SerializeToString() == before
