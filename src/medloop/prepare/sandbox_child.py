"""The process that decodes hostile files: one request, one answer, for as long as its parent lives."""

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

from medloop.errors import RejectedInput
from medloop.prepare.decode import decode_apart
from medloop.prepare.refuse import OutOfMemory
from medloop.prepare.rule import DecodeLimits, DecodeRule

# Every message: the length of its JSON, the length of its bytes, the JSON, the bytes.
LENGTHS = struct.Struct(">II")
READY = b"ready"

_PRELOADED = (
    *("medloop.prepare.dicom", "pydicom.pixels.decoders", "pydicom.pixels.utils", "gdcm", "openjpeg", "rle"),
    *("PIL.BmpImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin"),
)


def main(memory_bytes: int, seconds: float) -> None:
    """Answers requests on the standard streams until the parent closes them."""
    requests, answers = os.dup(0), os.dup(1)
    # Decoders print to the standard streams, which would break the messages and could quote the file.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    warnings.simplefilter("ignore")
    _preload()
    _confine(memory_bytes)
    _write(answers, READY)
    while True:
        lengths = _read(requests, LENGTHS.size)
        if lengths is None:
            # At once: nothing here is worth a tidy end.
            os._exit(0)
        words, size = LENGTHS.unpack(lengths)
        request, data = _read(requests, words), _read(requests, size)
        if request is None or data is None:
            os._exit(0)
        _allow_time(seconds)
        answer, pixels = respond(json.loads(bytes(request)), bytes(data))
        text = json.dumps(answer).encode()
        _write(answers, LENGTHS.pack(len(text), len(pixels)) + text)
        _write(answers, pixels)


def respond(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Decodes frames of one file, and says as plain data what came out or why nothing did."""
    rule, limits = DecodeRule.from_json(request["rule"]), DecodeLimits(**request["limits"])
    try:
        frames, who = decode_apart(data, rule, limits, start=request["start"])
    except RejectedInput as refusal:
        words = {"must": refusal.must, "found": refusal.found, "hint": refusal.hint}
        return {**words, "memory": isinstance(refusal, OutOfMemory)}, memoryview(b"")
    decoded = frames.pictures[0]
    answer = {
        "shape": (len(frames.pictures), *decoded.pixels.shape),
        "total": frames.total,
        "mode": decoded.mode,
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "bits": decoded.bits,
        "metas": [dict(picture.meta) for picture in frames.pictures],
        # Not hashed here: the key stays out of the process that strangers' files might take over.
        "who": asdict(who),
    }
    return answer, memoryview(b"".join(picture.pixels.tobytes() for picture in frames.pictures))


def _preload() -> None:
    """Loads the decoders before the limits count, so that no file pays for it."""
    for name in _PRELOADED:
        if importlib.util.find_spec(name):
            importlib.import_module(name)


def _confine(memory_bytes: int) -> None:
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _allow_time(seconds: float) -> None:
    """Ends this process itself if its parent is no longer there to do so."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


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
