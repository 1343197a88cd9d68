"""Reads the protobuf of a graph, to check that its weights are inside it and are numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medloop.bundle import files
from medloop.errors import BrokenBundle

MAX_VARINT_BYTES = 10
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
# onnx.proto: which fields of a message hold messages in which tensors may lie.
HOLDING = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA = 13
GRAPH, INITIALIZER = 7, 5
DATA_TYPE, FLOATS, RAW, DOUBLES = 2, 4, 9, 10
FLOAT_TYPES: dict[object, str] = {1: "<f4", 10: "<f2", 11: "<f8"}


def refuse_external_data(model: bytes) -> None:
    """Raise if a tensor of this ONNX model lies in another file."""
    # Every reference to external data has this key, which hardly any other model contains.
    if b"location" in model and any(field == EXTERNAL_DATA for field in _fields_of_tensors(memoryview(model))):
        raise BrokenBundle(
            f"{files.MODEL} has a tensor outside the bundle.", "Export the model with all of its weights in one file."
        )


def refuse_nan_weights(model: bytes) -> None:
    """Raise if a weight of this ONNX model is NaN, which an int8 network would turn into a number."""
    if any(_has_nan(tensor) for graph in _inside(memoryview(model), GRAPH) for tensor in _inside(graph, INITIALIZER)):
        raise BrokenBundle(f"{files.MODEL} has a weight that is NaN.", files.EXPORT_AGAIN)


def _has_nan(tensor: memoryview) -> bool:
    fields = list(_fields(tensor))
    kind = next((content for field, content in fields if field == DATA_TYPE), None)
    types = {FLOATS: "<f4", DOUBLES: "<f8", RAW: FLOAT_TYPES.get(kind)}
    parts = [(types.get(field), content) for field, content in fields if isinstance(content, memoryview)]
    return any(bool(np.isnan(np.frombuffer(content, name)).any()) for name, content in parts if name)


def _inside(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the messages in one field of a message."""
    for field, content in _fields(message):
        if field == wanted and isinstance(content, memoryview):
            yield content


def _fields_of_tensors(model: memoryview) -> Iterator[int]:
    """Yield the number of every field of every tensor."""
    left = [("model", model)]
    while left:
        kind, message = left.pop()
        for field, content in _fields(message):
            if kind == "tensor":
                yield field
            elif isinstance(content, memoryview) and field in HOLDING[kind]:
                left.append((HOLDING[kind][field], content))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int | None]]:
    """Yield the fields of a protobuf message, as bytes or integers."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        field, wire = (tag & 0xFFFFFFFF) >> 3, tag & 7
        if wire == BYTES:
            size, place = _varint(message, place)
            yield field, message[place : place + size]
            place += size
            continue
        value = None
        if wire == VARINT:
            value, place = _varint(message, place)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            place += 8 if wire == EIGHT_BYTES else 4
        else:
            raise ValueError("not a protobuf message")
        yield field, value
    if place != len(message):
        raise ValueError("a truncated message")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a base-128 integer, and the position after it."""
    value = 0
    for length in range(MAX_VARINT_BYTES):
        byte = message[place + length]
        value |= (byte & 127) << 7 * length
        if byte < 128:
            return value, place + length + 1
    raise ValueError("an integer that is too long")
