"""The model's graph, read just as far as it takes to see that all of its data lies in it."""

from __future__ import annotations

from collections.abc import Iterator

from medloop.bundle import files
from medloop.errors import BrokenBundle

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


def refuse_external_data(model: bytes) -> None:
    """Raise if a tensor of this ONNX model lies in another file."""
    # Each reference has this key, and hardly any other model has the word.
    if b"location" in model and any(field == EXTERNAL_DATA for field in _fields_of_tensors(memoryview(model))):
        raise BrokenBundle(
            "The model refers to data outside the bundle.",
            found=f"an external tensor in {files.MODEL}",
            hint="export the model with all of its weights in one file",
        )


def _fields_of_tensors(model: memoryview) -> Iterator[int]:
    """The number of each field of each tensor."""
    left = [("model", model)]
    while left:
        kind, message = left.pop()
        for field, content in _fields(message):
            if kind == "tensor":
                yield field
            elif content is not None and field in HOLDING[kind]:
                left.append((HOLDING[kind][field], content))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """The fields of a protobuf message; the content of those that may hold a message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        field, wire = tag >> 3, tag & 7
        if wire == BYTES:
            size, place = _varint(message, place)
            yield field, message[place : place + size]
            place += size
            continue
        if wire == VARINT:
            _, place = _varint(message, place)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            place += 8 if wire == EIGHT_BYTES else 4
        else:
            raise ValueError("not a protobuf message")
        yield field, None
    if place != len(message):
        raise ValueError("a message that ends too soon")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number in base 128, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
