"""Bundles that must be refused: bytes that changed, files that came or went, contents that lie."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle import files

Damage = Callable[[Path], None]


class Payload:
    """Unpickling it runs a command that leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def pickled(marker: Path) -> bytes:
    """What joblib and torch files come down to."""
    return pickle.dumps(Payload(marker))


def object_arrays(marker: Path) -> bytes:
    """An npz whose arrays hold pickled objects."""
    buffer = io.BytesIO()
    payload = np.array([Payload(marker)], dtype=object)
    np.savez(buffer, mean=payload, precision=payload, embedding=payload, probabilities=payload)  # type: ignore[arg-type]
    return buffer.getvalue()


def zipped_pickle(marker: Path) -> bytes:
    """A torch checkpoint: a zip with a pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(marker))
        archive.writestr("mean.npy", pickled(marker))
    return buffer.getvalue()


PAYLOADS = {"pickle": pickled, "objects in npz": object_arrays, "torch": zipped_pickle}


def described(**values: Any) -> Damage:
    """bundle.json says something else, and is sealed so."""

    def damage(bundle: Path) -> None:
        path = bundle / files.META
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), encoding="utf-8")

    return damage


def written(name: str, content: bytes) -> Damage:
    """A file holds something else, and is sealed so."""

    def damage(bundle: Path) -> None:
        (bundle / name).write_bytes(content)

    return damage


def cut(name: str) -> Damage:
    """Half of a file is gone, and the rest is sealed."""

    def damage(bundle: Path) -> None:
        (bundle / name).write_bytes((bundle / name).read_bytes()[: (bundle / name).stat().st_size // 2])

    return damage


# Each is sealed again, so that only what it says, and not its checksum, can give it away.
MISFITS: dict[str, Damage] = {
    "an older format": described(format=0),
    "a newer format": described(format=files.FORMAT + 1),
    "a format that is no number": described(format=True),
    "a format in words": described(format="1"),
    "other columns": described(preparer={"columns": [{"name": "x", "kind": "number"}]}),
    "a column of an unknown shape": described(preparer={"columns": [{"title": "x"}]}),
    "no columns": described(preparer=None),
    "more classes than the model": described(classes=["a", "b", "c"]),
    "no threshold": described(threshold=None),
    "a temperature of 0": described(calibration={"temperature": 0}),
    "a temperature in words": described(calibration={"temperature": "cold"}),
    "a list as description": written(files.META, b"[]"),
    "a broken description": written(files.META, b'{"format": 1'),
    "a deep description": written(files.META, b"[" * 100_000),
    "a description in another encoding": written(files.META, "{'ä'".encode("utf-16")),
    "no model": written(files.MODEL, b""),
    "nonsense as model": written(files.MODEL, b"nonsense" * 100),
    "half a model": cut(files.MODEL),
    "nonsense as reference": written(files.REFERENCE, b"nonsense"),
    "half a reference": cut(files.REFERENCE),
    "a single array as reference": written(files.REFERENCE, b"\x93NUMPY\x01\x00"),
    "a zip of nothing as reference": written(files.REFERENCE, b"PK\x05\x06" + bytes(18)),
}


def extra_file(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(b"more")


def missing_file(bundle: Path) -> None:
    (bundle / files.REFERENCE).unlink()


def extra_folder(bundle: Path) -> None:
    (bundle / "more").mkdir()


def linked_file(bundle: Path) -> None:
    aside = bundle.with_name("aside.onnx")
    (bundle / files.MODEL).rename(aside)
    (bundle / files.MODEL).symlink_to(aside)


def linked_folder(bundle: Path) -> None:
    (bundle / "more").symlink_to(bundle.parent)


def dangling_link(bundle: Path) -> None:
    (bundle / "more").symlink_to("nowhere")


def pipe(bundle: Path) -> None:
    (bundle / files.MODEL).unlink()
    os.mkfifo(bundle / files.MODEL)


def linked_checksums(bundle: Path) -> None:
    aside = bundle.with_name("aside.json")
    (bundle / files.CHECKSUMS).rename(aside)
    (bundle / files.CHECKSUMS).symlink_to(aside)


def checksums_that_lead_out(bundle: Path) -> None:
    checksums = json.loads((bundle / files.CHECKSUMS).read_text("utf-8"))
    (bundle.parent / "outside").write_bytes(b"")
    content = {**checksums, "../outside": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    (bundle / files.CHECKSUMS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


DAMAGES: dict[str, Damage] = {
    one.__name__: one
    for one in (
        *(extra_file, missing_file, extra_folder, linked_file, linked_folder, dangling_link, pipe),
        *(linked_checksums, checksums_that_lead_out),
    )
}
