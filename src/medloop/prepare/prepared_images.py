"""The prepared images on disk: one 8-bit array, written by several processes, resumed after a kill."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medloop.decode.examine import read_image
from medloop.decode.kept import KeptRows, Place, read_row
from medloop.decode.parallel import MIN_FILES_FOR_PROCESSES, chunks_of, each_chunk
from medloop.decode.pool import Sandbox
from medloop.decode.rule import Pixels
from medloop.errors import RejectedInput, UserError
from medloop.prepare.image import ImagePreparer
from medloop.storage import file_lock, read_json, sha256_bytes, write_json, write_text

IMAGES = "images.npy"
INDEX = "index.json"
# The most work that a kill may cost.
SECONDS_BETWEEN_MARKS = 0.25
MAX_CHUNK_BYTES = 16_000_000

# The row of the first file; then for each file the path, the SHA-256 and the place in the cache, if it was kept.
Chunk = tuple[int, Sequence[str], Sequence[str], Sequence[Place | None]]


class ImageFiles(NamedTuple):
    """The cases to prepare, their files, and the SHA-256 of the ingested bytes, one list per column."""

    case_ids: Sequence[str]
    paths: Sequence[str]
    hashes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class PreparedImages:
    """The memory-mapped array, and the cases of its rows."""

    images: Pixels
    case_ids: list[str]
    labels: list[str]
    preparer: ImagePreparer
    task: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Write the rows of a chunk of files; written, not memory-mapped, so that memory does not fill up."""

    array: str
    offset: int
    preparer: ImagePreparer

    def __call__(self, chunk: Chunk, sandbox: Sandbox) -> list[int]:
        """Write the rows of these files, and return the numbers of those that could not be read."""
        first, paths, hashes, places = chunk
        lost = []
        block = np.zeros((len(paths), *self.preparer.shape), np.uint8)
        for number, (path, file_sha256, place) in enumerate(zip(paths, hashes, places, strict=True)):
            image = self._prepared(path, file_sha256, place, sandbox)
            if image is None:
                lost.append(first + number)
            else:
                block[number] = image
        with Path(self.array).open("r+b") as file:
            file.seek(self.offset + first * block[0].nbytes)
            file.write(block.data)
        return lost

    def _prepared(self, path: str, file_sha256: str, place: Place | None, sandbox: Sandbox) -> Pixels | None:
        try:
            data = read_image(path)
            if isinstance(data, int) or sha256_bytes(data) != file_sha256:
                return None
            if place and (kept := read_row(place, self.preparer.dtype)) is not None:
                return np.asarray(kept, np.uint8)
            return self.preparer.prepare(data, decoder=sandbox.decode)
        except (OSError, RejectedInput):
            return None


def write_prepared_images(
    files: ImageFiles,
    labels: Sequence[str],
    preparer: ImagePreparer,
    task: Mapping[str, Any],
    folder: Path,
    *,
    kept: Path | None = None,
) -> int:
    """Prepare the images that are not prepared yet, and return how many; `kept` is the cache of ingest."""
    key = _key(files, preparer)
    with file_lock(folder.with_name(f".{folder.name}.lock"), wait=False):
        is_done = _is_done(folder, key)
        partial = folder if is_done else _partial(folder)
        with nullcontext(0) if is_done else _writing(files, preparer, folder, key, kept) as done:
            write_json(partial / "preparer.json", {"kind": "image", **preparer.to_json()})
            write_json(partial / "task.json", task)
            write_text(partial / INDEX, json.dumps({"key": key, "case_ids": files.case_ids, "labels": labels}))
        _publish(partial, folder)
    return done


def read_prepared_images(folder: Path) -> PreparedImages:
    """Read what `write_prepared_images` stored."""
    index = read_json(folder / INDEX)
    content = read_json(folder / "preparer.json")
    return PreparedImages(
        images=np.load(folder / IMAGES, mmap_mode="r"),
        case_ids=index["case_ids"],
        labels=index["labels"],
        preparer=ImagePreparer.from_json({name: value for name, value in content.items() if name != "kind"}),
        task=read_json(folder / "task.json"),
    )


def _is_done(folder: Path, key: str) -> bool:
    is_whole = (folder / IMAGES).is_file() and (folder / INDEX).is_file()
    return is_whole and read_json(folder / INDEX)["key"] == key


def _key(files: ImageFiles, preparer: ImagePreparer) -> str:
    digest = hashlib.sha256(json.dumps(preparer.to_json(), sort_keys=True).encode())
    digest.update("\n".join(files.case_ids).encode())
    digest.update(b"\n")
    digest.update("\n".join(files.hashes).encode())
    return digest.hexdigest()


@contextmanager
def _writing(files: ImageFiles, preparer: ImagePreparer, folder: Path, key: str, kept: Path | None) -> Iterator[int]:
    """Write the array in the partial folder while the block runs, and yield how many images are prepared.

    The work of a run that was killed is kept.
    """
    max_size = max(1, MAX_CHUNK_BYTES // math.prod(preparer.shape))
    pieces = chunks_of(files.paths, max_size=max_size)
    array = _partial(folder) / IMAGES
    done = _resume(folder, [key, len(pieces)])
    if not done:
        # The marks first: those of another array are not valid for this one.
        shutil.rmtree(_progress(folder).parent, ignore_errors=True)
        _allocate(array, (len(files.paths), *preparer.shape))
    open_chunks = [number for number in range(len(pieces)) if number not in done]
    size = len(pieces[0])
    place_of = KeptRows(kept, preparer.dtype).place if kept else lambda _: None
    chunks: list[Chunk] = []
    for number in open_chunks:
        hashes = files.hashes[number * size : (number + 1) * size]
        chunks.append((number * size, pieces[number], hashes, [place_of(one) for one in hashes]))
    writer = Writer(array=str(array), offset=np.load(array, mmap_mode="r").offset, preparer=preparer)
    lost: list[int] = []
    count = sum(len(rows) for _, rows, _, _ in chunks)
    with each_chunk(writer, chunks, are_many=count >= MIN_FILES_FOR_PROCESSES, what="prepare") as results:
        yield count
        marked = time.monotonic()
        for number, missing in zip(open_chunks, results, strict=True):
            lost += missing
            done += [] if missing else [number]
            if time.monotonic() - marked > SECONDS_BETWEEN_MARKS or number == open_chunks[-1]:
                _mark(folder, array, [key, len(pieces)], done)
                marked = time.monotonic()
    if lost:
        raise UserError(
            f"{len(lost)} images are missing or no longer as they were ingested, such as case "
            f"{files.case_ids[lost[0]]}.",
            "Restore the files, or run `medloop ingest` again.",
        )


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _progress(folder: Path) -> Path:
    """Return the file of marks, outside the partial folder, which becomes the finished one."""
    return folder.with_name(f".{folder.name}.progress") / "done.json"


def _resume(folder: Path, plan: list[Any]) -> list[int]:
    """Return the chunks that an earlier run with the same plan has written."""
    if (_partial(folder) / IMAGES).is_file() and _progress(folder).is_file():
        progress = read_json(_progress(folder))
        if progress["plan"] == plan:
            return list(progress["done"])
    return []


def _mark(folder: Path, array: Path, plan: list[Any], done: list[int]) -> None:
    """Record the chunks that are written, once they are on the disk."""
    handle = os.open(array, os.O_WRONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    write_json(_progress(folder), {"plan": plan, "done": done})


def _allocate(array: Path, shape: tuple[int, ...]) -> None:
    """Create an empty array in a new folder."""
    shutil.rmtree(array.parent, ignore_errors=True)
    array.parent.mkdir(parents=True)
    needed, free = math.prod(shape), shutil.disk_usage(array.parent).free
    if needed > free:
        raise UserError(
            f"The prepared images need {needed:,} bytes of disk space, and {free:,} are free.",
            "Free some disk space, or lower `prepare.size`.",
        )
    np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=shape)


def _publish(partial: Path, folder: Path) -> None:
    """Rename the finished folder; after a kill at any point, a later run completes the rest."""
    old = folder.with_name(f".{folder.name}.old")
    # Left by a kill while files were being written.
    for path in partial.glob(".*.partial"):
        path.unlink()
    if partial != folder:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_progress(folder).parent, ignore_errors=True)
