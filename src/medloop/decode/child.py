"""The process that decodes untrusted files, one request at a time, for as long as its parent lives."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import resource
import struct
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medloop.decode.raster import decode_apart
from medloop.decode.refuse import OutOfMemory
from medloop.decode.rule import DecodeLimits, DecodeRule
from medloop.errors import RejectedInput

# Every message: the length of its JSON, the length of its bytes, the JSON, the bytes.
LENGTHS = struct.Struct(">II")
READY = b"ready"

_PRELOADED = (
    *("medloop.decode.dicom.picture", "pydicom.pixels.decoders", "pydicom.pixels.utils", "gdcm", "openjpeg", "rle"),
    *("PIL.BmpImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin"),
)


def main(memory_bytes: int, seconds: float) -> None:
    """Serve requests on the standard streams until the parent closes them."""
    requests, responses = os.dup(0), os.dup(1)
    # Decoders print to the standard streams, which would break the messages and could quote the file.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    warnings.simplefilter("ignore")
    _preload()
    _confine(memory_bytes)
    _write(responses, READY)
    while True:
        lengths = _read(requests, LENGTHS.size)
        if lengths is None:
            # At once: there is nothing to clean up.
            os._exit(0)
        words, size = LENGTHS.unpack(lengths)
        request, data = _read(requests, words), _read(requests, size)
        if request is None or data is None:
            os._exit(0)
        _allow_time(seconds)
        response, pixels = respond(json.loads(bytes(request)), bytes(data))
        text = json.dumps(response).encode()
        _write(responses, LENGTHS.pack(len(text), len(pixels)) + text)
        _write(responses, pixels)


def respond(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Decode frames of one file, and return them, or the refusal, as plain data."""
    rule, limits = DecodeRule.from_json(request["rule"]), DecodeLimits(**request["limits"])
    try:
        frames, who = decode_apart(data, rule, limits, start=request["start"])
    except RejectedInput as refusal:
        out_of_memory = isinstance(refusal, OutOfMemory)
        return {"problem": refusal.problem, "hint": refusal.hint, "memory": out_of_memory}, memoryview(b"")
    decoded = frames.pictures[0]
    response = {
        "shape": (len(frames.pictures), *decoded.pixels.shape),
        "total": frames.total,
        "mode": decoded.mode,
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "bits": decoded.bits,
        "metas": [dict(picture.meta) for picture in frames.pictures],
        # Not hashed here: the key stays out of the process that a hostile file might take over.
        "who": asdict(who),
    }
    return response, memoryview(b"".join(picture.pixels.tobytes() for picture in frames.pictures))


def _preload() -> None:
    """Load the decoders before the limits apply."""
    for name in _PRELOADED:
        if importlib.util.find_spec(name):
            importlib.import_module(name)


def _confine(memory_bytes: int) -> None:
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _allow_time(seconds: float) -> None:
    """Limit the processor time, in case the parent is no longer there to end this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _read(stream: int, size: int) -> bytearray | None:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = os.readv(stream, [view[done:]])
        if count == 0:
            return None
        done += count
    return data


def _write(stream: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(stream, view) :]
