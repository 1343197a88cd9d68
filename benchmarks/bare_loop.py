"""What medloop is measured against: a loop that reads, hashes and decodes with the quickest decoder, and no more."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

CORES = 2
CHUNKS = 32


def hash_and_decode(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The SHA-256 of the files and of their pixels."""
    cv2.setNumThreads(1)
    return [_hashes(path) for path in paths]


def shrink(paths: Sequence[str], *, size: int) -> int:
    """The pictures at the size of the model, thrown away; the files hashed as well."""
    cv2.setNumThreads(1)
    return sum(len(_shrunk(path, size)) for path in paths)


@contextmanager
def on_two_cores(
    loop: Callable[[Sequence[str]], object], paths: Sequence[str]
) -> Iterator[dict[str, Callable[[], object]]]:
    """The loop in two threads and in two processes that have started already."""
    pieces = [paths[start::CHUNKS] for start in range(CHUNKS)]
    fork = multiprocessing.get_context("forkserver")
    with ThreadPoolExecutor(CORES) as threads, ProcessPoolExecutor(CORES, mp_context=fork) as processes:
        list(processes.map(loop, pieces[: 2 * CORES]))
        yield {"threads": partial(_run, threads, loop, pieces), "processes": partial(_run, processes, loop, pieces)}


def _run(pool: Executor, loop: Callable[[Sequence[str]], object], pieces: list[Sequence[str]]) -> None:
    list(pool.map(loop, pieces))


def _hashes(path: str) -> tuple[str, str]:
    with open(path, "rb") as file:  # noqa: PTH123 - the quickest way
        data = file.read()
    pixels = _decoded(data, cv2.IMREAD_UNCHANGED)
    return hashlib.sha256(data).hexdigest(), hashlib.sha256(pixels.data).hexdigest()


def _shrunk(path: str, size: int) -> Pixels:
    with open(path, "rb") as file:  # noqa: PTH123 - the quickest way
        data = file.read()
    hashlib.sha256(data).hexdigest()
    pixels = _decoded(data, cv2.IMREAD_GRAYSCALE)
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _decoded(data: bytes, flags: int) -> Pixels:
    if data[:2] == b"\xff\xd8":
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="GRAY"))
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags), np.uint8)
