"""The prepared images on disk: one 8-bit array, written once by several processes, resumed after a kill."""

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

from medloop.errors import RejectedInput, UserError
from medloop.prepare.examine import read_image
from medloop.prepare.image import ImagePreparer
from medloop.prepare.parallel import WORTH_PROCESSES, chunks_of, each_chunk
from medloop.prepare.rule import Pixels
from medloop.prepare.sandbox import Sandbox
from medloop.storage import file_lock, read_json, sha256_bytes, write_json, write_text

IMAGES = "images.npy"
INDEX = "index.json"
# What a kill may cost at most.
SECONDS_BETWEEN_MARKS = 0.25
MOST_BYTES_IN_A_CHUNK = 16_000_000

# The row of the first file, and the paths and SHA-256s of all.
Chunk = tuple[int, Sequence[str], Sequence[str]]


class ImageFiles(NamedTuple):
    """The cases to prepare, their files, and the SHA-256 of the bytes that were ingested, one list a column."""

    case_ids: Sequence[str]
    paths: Sequence[str]
    hashes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class PreparedImages:
    """The array, mapped and not read, beside the cases of its rows."""

    images: Pixels
    case_ids: list[str]
    labels: list[str]
    preparer: ImagePreparer
    task: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """The work on a chunk of files: their rows of the array; written, not mapped, so that no memory fills up."""

    array: str
    offset: int
    preparer: ImagePreparer

    def __call__(self, chunk: Chunk, sandbox: Sandbox) -> list[int]:
        """Write the rows of these files; the numbers of those that could not be read are given back."""
        first, paths, hashes = chunk
        lost = []
        block = np.zeros((len(paths), *self.preparer.shape), np.uint8)
        for place, (path, file_sha256) in enumerate(zip(paths, hashes, strict=True)):
            image = self._prepared(path, file_sha256, sandbox)
            if image is None:
                lost.append(first + place)
            else:
                block[place] = image
        with Path(self.array).open("r+b") as file:
            file.seek(self.offset + first * block[0].nbytes)
            file.write(block.data)
        return lost

    def _prepared(self, path: str, file_sha256: str, sandbox: Sandbox) -> Pixels | None:
        try:
            data = read_image(path)
            if isinstance(data, int) or sha256_bytes(data) != file_sha256:
                return None
            return self.preparer.prepare(data, decoder=sandbox.decode)
        except (OSError, RejectedInput):
            return None


def write_prepared_images(
    files: ImageFiles, labels: Sequence[str], preparer: ImagePreparer, task: Mapping[str, Any], folder: Path
) -> int:
    """Prepare what is not prepared yet; how many images that were is returned."""
    key = _key(files, preparer)
    with file_lock(folder.with_name(f".{folder.name}.lock"), wait=False):
        is_done = _is_done(folder, key)
        partial = folder if is_done else _partial(folder)
        with nullcontext(0) if is_done else _writing(files, preparer, folder, key) as done:
            write_json(partial / "preparer.json", {"kind": "image", **preparer.to_json()})
            write_json(partial / "task.json", task)
            write_text(partial / INDEX, json.dumps({"key": key, "case_ids": files.case_ids, "labels": labels}))
        _put(partial, folder)
    return done


def read_prepared_images(folder: Path) -> PreparedImages:
    """What `write_prepared_images` stored."""
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
def _writing(files: ImageFiles, preparer: ImagePreparer, folder: Path, key: str) -> Iterator[int]:
    """The array in the partial folder, whole after the block, which runs beside; gives how many are prepared anew.

    What a run that was broken off has done is kept.
    """
    most = max(1, MOST_BYTES_IN_A_CHUNK // math.prod(preparer.shape))
    pieces = chunks_of(files.paths, most=most)
    array = _partial(folder) / IMAGES
    done = _resume(folder, [key, len(pieces)])
    if not done:
        # The marks first: those of another array must not be taken for this one's.
        shutil.rmtree(_progress(folder).parent, ignore_errors=True)
        _make_room(array, (len(files.paths), *preparer.shape))
    open_chunks = [number for number in range(len(pieces)) if number not in done]
    size = len(pieces[0])
    chunks: list[Chunk] = [
        (number * size, pieces[number], files.hashes[number * size : (number + 1) * size]) for number in open_chunks
    ]
    writer = Writer(array=str(array), offset=np.load(array, mmap_mode="r").offset, preparer=preparer)
    lost: list[int] = []
    count = sum(len(rows) for _, rows, _ in chunks)
    with each_chunk(writer, chunks, are_many=count >= WORTH_PROCESSES, what="prepare") as results:
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
            "every image of the manifest must still be there, as it was ingested",
            found=f"{len(lost)} that are not, such as case {files.case_ids[lost[0]]}",
            hint="restore the files, or run `medloop ingest` again",
        )


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _progress(folder: Path) -> Path:
    """Not within the partial folder, which becomes the finished one."""
    return folder.with_name(f".{folder.name}.progress") / "done.json"


def _resume(folder: Path, plan: list[Any]) -> list[int]:
    """The chunks that a run with the same plan has done."""
    if (_partial(folder) / IMAGES).is_file() and _progress(folder).is_file():
        progress = read_json(_progress(folder))
        if progress["plan"] == plan:
            return list(progress["done"])
    return []


def _mark(folder: Path, array: Path, plan: list[Any], done: list[int]) -> None:
    """Note the chunks that are done, once they are on the disk."""
    handle = os.open(array, os.O_WRONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    write_json(_progress(folder), {"plan": plan, "done": done})


def _make_room(array: Path, shape: tuple[int, ...]) -> None:
    """An array of no content in a fresh folder."""
    shutil.rmtree(array.parent, ignore_errors=True)
    array.parent.mkdir(parents=True)
    needed, free = math.prod(shape), shutil.disk_usage(array.parent).free
    if needed > free:
        raise UserError(
            f"the prepared images need {needed:,} bytes of disk", found=f"{free:,} free", hint="lower prepare.size"
        )
    np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=shape)


def _put(partial: Path, folder: Path) -> None:
    """Give the finished folder its name; wherever a kill comes, a later run ends what is left to do."""
    old = folder.with_name(f".{folder.name}.old")
    # What a kill left of files that were being written.
    for path in partial.glob(".*.partial"):
        path.unlink()
    if partial != folder:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_progress(folder).parent, ignore_errors=True)
