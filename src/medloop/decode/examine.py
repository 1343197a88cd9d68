"""Read, hash and decode an image file once; without pandas, so that processes start quickly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from medloop.decode.kept import Derived, Keep, keeping
from medloop.decode.pool import Sandbox
from medloop.decode.raster import DEFAULT_LIMITS, DEFAULT_RULE, each_frame, lossless_png, only, pixel_hash
from medloop.decode.rule import Decoded, DecodeRule, Frames, MetaValue
from medloop.errors import RejectedInput
from medloop.storage import sha256_bytes, sha256_file

UNREADABLE = "The file cannot be opened"
# Small files are read in one system call, which takes as long as hashing them.
FIRST_READ = 65_536
# Sex, age in bands of ten years, and scanner; only DICOM files have them.
SUBGROUPS = (("PatientSex",), ("PatientAge",), ("Manufacturer", "ManufacturerModelName"))
# The folder of a project for frames that are separate pictures, and their file names.
FRAMES, FRAME_NAME = "frames", re.compile(r"\d{4,}\.png")
NO_SUBGROUPS = (None,) * len(SUBGROUPS)


class Facts(NamedTuple):
    """The facts of one file; a file that cannot be decoded has a reason in place of its picture."""

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
    """One file: how many of its frames were written out (0 if it stays whole), and the facts of each picture."""

    frames: int
    facts: list[Facts]


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """The work on a chunk of files."""

    root: str
    patient_key: bytes | None = None
    rule: DecodeRule = DEFAULT_RULE
    # The folder for frames, if each frame of a file is to be a separate picture.
    frames: str | None = None
    # The arrays that the next stages need of each picture, and the folder that keeps them.
    derived: tuple[Derived, ...] = ()
    kept: str | None = None

    def __call__(self, keys: Sequence[str], sandbox: Sandbox) -> list[Examined]:
        """Return the facts of the files below the root."""
        with keeping(self.kept, self.derived, shard=sha256_bytes(os.fsencode(keys[0]))) as keep:
            return [self._examine(key, sandbox, keep) for key in keys]

    def _examine(self, key: str, sandbox: Sandbox, keep: Keep) -> Examined:
        path = f"{self.root}/{key}"
        try:
            data = read_image(path)
        except OSError:
            return Examined(0, [Facts(None, None, quarantined=UNREADABLE)])
        if isinstance(data, int):
            return Examined(0, [Facts(sha256_file(Path(path)), data, quarantined=f"The file has {data:,} bytes")])
        try:
            return self._decoded(key, data, sandbox, keep)
        except RejectedInput as error:
            return Examined(0, [Facts(sha256_bytes(data), len(data), quarantined=error.reason)])

    def _decoded(self, key: str, data: bytes, sandbox: Sandbox, keep: Keep) -> Examined:
        first = sandbox.frames(data, rule=self.rule, patient_key=self.patient_key)
        if first.total == 1 or self.frames is None:
            decoded = only(first)
            facts = facts_of(decoded, data)
            keep(str(facts.file_sha256), decoded.pixels)
            return Examined(0, [facts])

        def decode_from(start: int) -> Frames:
            return sandbox.frames(data, start=start, rule=self.rule, patient_key=self.patient_key) if start else first

        folder = Path(self.frames) / key
        folder.mkdir(parents=True, exist_ok=True)
        all_facts = []
        for number, picture in enumerate(each_frame(decode_from)):
            png = lossless_png(picture.pixels)
            (folder / frame_name(number)).write_bytes(png)
            facts = facts_of(picture, png)
            keep(str(facts.file_sha256), picture.pixels)
            # The frames of one file belong together, even where it names no patient.
            all_facts.append(facts._replace(study=facts.study or sha256_bytes(data)))
        return Examined(len(all_facts), all_facts)


def facts_of(decoded: Decoded, data: bytes) -> Facts:
    """Return the facts of a picture and the bytes of its file."""
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
        *(subgroups_of(decoded.meta) if decoded.meta else NO_SUBGROUPS),
    )


def is_frame(path: str) -> bool:
    """Return whether the file is a frame that ingest wrote, so that its name identifies nobody."""
    place = PurePosixPath(path)
    return FRAMES in place.parts and FRAME_NAME.fullmatch(place.name) is not None


def frame_name(number: int) -> str:
    """Return the file name of a frame; names sort in the order of the frames."""
    return f"{number:04d}.png"


def subgroups_of(meta: Mapping[str, MetaValue]) -> Iterator[str | None]:
    """Yield sex, age and scanner from the kept tags of a DICOM header."""
    return (" ".join(str(meta[name]) for name in names if name in meta) or None for names in SUBGROUPS)


def read_image(path: str) -> bytes | int:
    """Return the bytes of a file, or only their number if it exceeds the limit for an image."""
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
