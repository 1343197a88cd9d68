"""What is known of an image file once it has been read, hashed and decoded; without pandas, for quick processes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from medloop.errors import RejectedInput
from medloop.prepare.decode import DEFAULT_LIMITS, DEFAULT_RULE, each_frame, lossless_png, only, pixel_hash
from medloop.prepare.rule import Decoded, DecodeRule, Frames, MetaValue
from medloop.prepare.sandbox import Sandbox
from medloop.storage import sha256_bytes, sha256_file

UNREADABLE = "a file that cannot be opened"
# Small files need no second call of the system, of which each costs as much as a hash.
FIRST_READ = 65_536
# The sex, the age in bands of ten years, and the scanner; other files tell none of them.
SUBGROUPS = (("PatientSex",), ("PatientAge",), ("Manufacturer", "ManufacturerModelName"))
# The folder of a project that takes frames which are pictures of their own, and their names.
FRAMES, FRAME_NAME = "frames", re.compile(r"\d{4,}\.png")
HASHES = ("file_sha256", "pixel_sha256")
NOTHING_TOLD = (None,) * len(SUBGROUPS)


class Facts(NamedTuple):
    """One file; what could not be decoded has a reason in place of its picture."""

    file_sha256: str | None
    bytes: int | None
    pixel_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    bits: int | None = None
    patient: str | None = None
    patient_alike: str | None = None
    study: str | None = None
    sex: str | None = None
    age: str | None = None
    scanner: str | None = None
    quarantined: str | None = None


class Examined(NamedTuple):
    """The facts of a chunk of files: the hashes of a kind in one text, all else in lists, but for lists of nothing.

    A file whose frames were written out has facts of each: `frames` says of how many, and 0 of a file that stays whole.
    """

    rows: int
    hashes: dict[str, str]
    lists: dict[str, tuple[Any, ...]]
    frames: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """The work on a chunk of files."""

    root: str
    patient_key: bytes | None = None
    rule: DecodeRule = DEFAULT_RULE
    # Where the frames of files go that hold several, if each is to be a picture of its own.
    frames: str | None = None

    def __call__(self, keys: Sequence[str], sandbox: Sandbox) -> Examined:
        """The facts of the files below the root."""
        found = [self._facts_of(key, sandbox) for key in keys]
        rows = [facts for _, some in found for facts in some]
        columns = zip(*rows, strict=True)
        nothing = (None,) * len(rows)
        lists = {name: column for name, column in zip(Facts._fields, columns, strict=True) if column != nothing}
        # One text travels between processes sooner than one a file.
        hashes = {name: "".join(lists.pop(name)) for name in HASHES if None not in lists.get(name, nothing)}
        return Examined(len(rows), hashes, lists, tuple(frames for frames, _ in found))

    def _facts_of(self, key: str, sandbox: Sandbox) -> tuple[int, list[Facts]]:
        """The number of frames that were written out, and the facts of each; or 0 and the facts of the file."""
        path = f"{self.root}/{key}"
        try:
            data = read_image(path)
        except OSError:
            return 0, [Facts(None, None, quarantined=UNREADABLE)]
        if isinstance(data, int):
            return 0, [Facts(sha256_file(Path(path)), data, quarantined=f"{data:,} bytes")]
        try:
            return self._decoded(key, data, sandbox)
        except RejectedInput as error:
            return 0, [Facts(sha256_bytes(data), len(data), quarantined=error.found)]

    def _decoded(self, key: str, data: bytes, sandbox: Sandbox) -> tuple[int, list[Facts]]:
        first = sandbox.frames(data, rule=self.rule, patient_key=self.patient_key)
        if first.total == 1 or self.frames is None:
            return 0, [facts_of(only(first), data)]

        def ask(start: int) -> Frames:
            return sandbox.frames(data, start=start, rule=self.rule, patient_key=self.patient_key) if start else first

        folder = Path(self.frames) / key
        folder.mkdir(parents=True, exist_ok=True)
        facts = []
        for number, picture in enumerate(each_frame(ask)):
            png = lossless_png(picture.pixels)
            (folder / frame_name(number)).write_bytes(png)
            of_frame = facts_of(picture, png)
            # The frames of one file belong together, even where it does not say whose they are.
            facts.append(of_frame._replace(study=of_frame.study or sha256_bytes(data)))
        return len(facts), facts


def facts_of(decoded: Decoded, data: bytes) -> Facts:
    """What is known of a picture that lies in a file of these bytes."""
    return Facts(
        sha256_bytes(data),
        len(data),
        pixel_hash(decoded.pixels),
        decoded.width,
        decoded.height,
        decoded.mode,
        decoded.format,
        decoded.bits,
        decoded.patient,
        decoded.patient_alike,
        decoded.study or decoded.series,
        *(told(decoded.meta) if decoded.meta else NOTHING_TOLD),
    )


def is_frame(path: str) -> bool:
    """Whether the file is one frame that was written out, and not one that somebody named."""
    place = PurePosixPath(path)
    return FRAMES in place.parts and FRAME_NAME.fullmatch(place.name) is not None


def frame_name(number: int) -> str:
    """The name of a frame's file, such that names sort as frames do."""
    return f"{number:04d}.png"


def told(meta: Mapping[str, MetaValue]) -> Iterator[str | None]:
    """What a DICOM header tells for subgroups, as far as it may leave the header at all."""
    return (" ".join(str(meta[name]) for name in names if name in meta) or None for names in SUBGROUPS)


def read_image(path: str) -> bytes | int:
    """The bytes of a file, or their number where it is more than any image may have."""
    handle = os.open(path, os.O_RDONLY)
    try:
        data = os.read(handle, FIRST_READ)
        if len(data) < FIRST_READ:
            return data
        size = os.fstat(handle).st_size
        if size > DEFAULT_LIMITS.max_bytes:
            return size
        parts = [data]
        while parts[-1]:
            parts.append(os.read(handle, size))
        return b"".join(parts)
    finally:
        os.close(handle)
