"""The files of a bundle: their names, their checksums, and the hash of the whole bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medloop.errors import BrokenBundle, UserError
from medloop.storage import read_json, sha256_file, write_json

FORMAT = 1
MODEL = "model.onnx"
META = "bundle.json"
REFERENCE = "reference.npz"
WEIGHTS = "weights.safetensors"
CHECKSUMS = "checksums.json"
NEEDED = frozenset({MODEL, META, REFERENCE})
KNOWN = NEEDED | {WEIGHTS}

EXPORT_AGAIN = "Export the bundle again, or restore its folder from the model store."


def seal(folder: Path) -> None:
    """Write the checksum of every file, after which none may change."""
    names = sorted(path.name for path in folder.iterdir())
    write_json(folder / CHECKSUMS, {name: sha256_file(folder / name) for name in names if name != CHECKSUMS})


def verify(folder: Path) -> str:
    """Check every file, and return the hash of the bundle, which is that of its checksums."""
    expected = _checksums(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {CHECKSUMS}
    if present != set(expected) or not NEEDED <= present <= KNOWN:
        differing = sorted(present ^ set(expected)) or sorted((NEEDED - present) | (present - KNOWN))
        raise BrokenBundle(f"The bundle has missing or additional files: {', '.join(differing[:5])}.", EXPORT_AGAIN)
    for name, checksum in expected.items():
        if not _is_plain(folder / name) or sha256_file(folder / name) != checksum:
            raise BrokenBundle(f"{name} has changed since the bundle was exported.", EXPORT_AGAIN)
    return sha256_file(folder / CHECKSUMS)


def _checksums(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    if not _is_plain(path):
        raise BrokenBundle("The folder is not a bundle: it has no checksums.json.", "Name the folder of a bundle.")
    content = _read(path)
    # The hash of the file identifies the bundle, so only one way of writing it is accepted.
    sealed = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if not isinstance(content, dict) or path.read_bytes() != sealed.encode():
        raise BrokenBundle("checksums.json has changed since the bundle was exported.", EXPORT_AGAIN)
    return content


def _is_plain(path: Path) -> bool:
    """Whether this is a file, and not a link out of the folder or a pipe that never ends."""
    return path.is_file() and not path.is_symlink()


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except UserError as error:
        raise BrokenBundle(error.problem, EXPORT_AGAIN) from error


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the content of bundle.json, if this version knows its format."""
    meta = _read(folder / META)
    found = meta.get("format") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or type(found) is not int or found != FORMAT:
        raise BrokenBundle(
            f"bundle.json has format {found!r}, but this version of medloop reads format {FORMAT}.",
            "Use the version of medloop that wrote the bundle, or export it again with this one.",
        )
    return meta
