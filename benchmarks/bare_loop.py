"""The baseline of the benchmarks: loops that read, hash and decode with the fastest decoders, and nothing else."""

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


def hash_decode_and_shrink(paths: Sequence[str], *, size: int) -> int:
    """Hash the files and their pixels, and bring the pictures to the size of the model."""
    cv2.setNumThreads(1)
    return sum(len(_hashed_and_shrunk(path, size)) for path in paths)


def shrink(paths: Sequence[str], *, size: int) -> int:
    """Hash the files, and bring the pictures to the size of the model."""
    cv2.setNumThreads(1)
    return sum(len(_shrunk(path, size)) for path in paths)


@contextmanager
def on_two_cores(
    loop: Callable[[Sequence[str]], object], paths: Sequence[str]
) -> Iterator[dict[str, Callable[[], object]]]:
    """Yield the loop in two threads and in two processes that have started already."""
    pieces = [paths[start::CHUNKS] for start in range(CHUNKS)]
    fork = multiprocessing.get_context("forkserver")
    with ThreadPoolExecutor(CORES) as threads, ProcessPoolExecutor(CORES, mp_context=fork) as processes:
        list(processes.map(loop, pieces[: 2 * CORES]))
        yield {"threads": partial(_run, threads, loop, pieces), "processes": partial(_run, processes, loop, pieces)}


def _run(pool: Executor, loop: Callable[[Sequence[str]], object], pieces: list[Sequence[str]]) -> None:
    list(pool.map(loop, pieces))


def _hashed_and_shrunk(path: str, size: int) -> Pixels:
    with open(path, "rb") as file:  # noqa: PTH123 - the fastest way
        data = file.read()
    hashlib.sha256(data).hexdigest()
    pixels = _decoded(data, cv2.IMREAD_GRAYSCALE)
    hashlib.sha256(pixels.data).hexdigest()
    return _resized(pixels, size)


def _shrunk(path: str, size: int) -> Pixels:
    with open(path, "rb") as file:  # noqa: PTH123 - the fastest way
        data = file.read()
    hashlib.sha256(data).hexdigest()
    return _resized(_decoded(data, cv2.IMREAD_GRAYSCALE), size)


def _resized(pixels: Pixels, size: int) -> Pixels:
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _decoded(data: bytes, flags: int) -> Pixels:
    if data[:2] == b"\xff\xd8":
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="GRAY"))
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags), np.uint8)
