"""A network's first convolution in a form that 8 bits suit: the same sums, over more channels at fewer places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# With so few channels, gathering what each place sees takes longer than multiplying it.
FEW_CHANNELS = 4
STEP = 2


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A convolution along one axis: the length of its input, that of its kernel, and how much is put around."""

    length: int
    kernel: int
    before: int
    after: int

    def folded(self) -> Axis:
        """What goes in steps of two, over pairs in steps of one."""
        first, last = -self.before // STEP, (self.kernel - 1 - self.before) // STEP
        kernel, length = last - first + 1, self.length // STEP
        places = (self.length + self.before + self.after - self.kernel) // STEP + 1
        return Axis(length=length, kernel=kernel, before=-first, after=places - 1 + kernel + first - length)


def fold_stem(model: onnx.ModelProto) -> None:
    """Make each 2 x 2 pixels one place of four times the channels, if the first convolution goes in steps of two."""
    graph = model.graph
    stored = {one.name: one for one in graph.initializer}
    place, node = next(((at, one) for at, one in enumerate(graph.node) if one.op_type == "Conv"), (0, None))
    if node is None or node.input[1] not in stored:
        return
    image, name, *bias = node.input
    weights = numpy_helper.to_array(stored[name])
    axes = _axes(node, weights, _sizes(model, image))
    if not axes or weights.shape[1] > FEW_CHANNELS or sum(name in one.input for one in graph.node) > 1:
        return
    graph.initializer.remove(stored[name])
    graph.initializer.append(numpy_helper.from_array(_folded(weights, axes), f"{name}_folded"))
    pads = [*(axis.folded().before for axis in axes), *(axis.folded().after for axis in axes)]
    new = (
        helper.make_node("SpaceToDepth", [image], [f"{image}_folded"], name=f"{node.name}_fold", blocksize=STEP),
        helper.make_node("Conv", [f"{image}_folded", f"{name}_folded", *bias], node.output, name=node.name, pads=pads),
    )
    del graph.node[place]
    for number, one in enumerate(new):
        graph.node.insert(place + number, one)


def _axes(node: onnx.NodeProto, weights: NDArray[Any], sizes: Sequence[int]) -> list[Axis]:
    """Both axes of a plain convolution in steps of two, whose pixels come in pairs; none of any other."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    plain = {"dilations": [1, 1], "group": 1, "auto_pad": b"NOTSET"}
    if given.get("strides") != [STEP, STEP] or any(given.get(name, value) != value for name, value in plain.items()):
        return []
    pads = given.get("pads", [0, 0, 0, 0])
    axes = [
        Axis(length=size, kernel=kernel, before=before, after=after)
        for size, kernel, before, after in zip(sizes, weights.shape[2:], pads[:2], pads[2:], strict=True)
    ]
    return axes if all(axis.length and axis.length % STEP == 0 and axis.folded().after >= 0 for axis in axes) else []


def _sizes(model: onnx.ModelProto, name: str) -> list[int]:
    """Height and width of what goes by this name, as far as they are known, else zeros."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {one.name: one.type.tensor_type.shape.dim for one in (*graph.input, *graph.value_info)}
    return [size.dim_value for size in known[name]][2:] if name in known else [0, 0]


def _folded(weights: NDArray[Any], axes: Sequence[Axis]) -> NDArray[Any]:
    """The weights at their new places; those that see nothing are zero."""
    kinds, channels, *kernel = weights.shape
    rows, columns = (axis.folded() for axis in axes)
    # In the order in which SpaceToDepth gathers them: row and column of the four, then the channel.
    folded = np.zeros((kinds, STEP, STEP, channels, rows.kernel, columns.kernel), weights.dtype)
    for row, column in np.ndindex(*kernel):
        down, lower = divmod(row - axes[0].before, STEP)
        right, later = divmod(column - axes[1].before, STEP)
        folded[:, lower, later, :, down + rows.before, right + columns.before] = weights[:, :, row, column]
    return folded.reshape(kinds, -1, rows.kernel, columns.kernel)
