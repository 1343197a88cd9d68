"""The files of a bundle: their names, their checksums, and the one hash that names the whole."""

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

EXPORT_AGAIN = "export it again, or restore the folder from the model store; a bundle is never edited"


def seal(folder: Path) -> None:
    """Write the checksum of every file; nothing may change afterwards."""
    names = sorted(path.name for path in folder.iterdir())
    write_json(folder / CHECKSUMS, {name: sha256_file(folder / name) for name in names if name != CHECKSUMS})


def verify(folder: Path) -> str:
    """The hash that names these bytes, that of the checksums, after every byte was compared."""
    expected = _checksums(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {CHECKSUMS}
    if present != set(expected) or not NEEDED <= present <= KNOWN:
        differing = sorted(present ^ set(expected)) or sorted((NEEDED - present) | (present - KNOWN))
        raise BrokenBundle(
            "a bundle must hold just the files it was sealed with",
            found=f"missing or added: {', '.join(differing[:5])}",
            hint=EXPORT_AGAIN,
        )
    for name, checksum in expected.items():
        if not _is_plain(folder / name) or sha256_file(folder / name) != checksum:
            raise BrokenBundle(
                "every file of a bundle must be as it was sealed", found=f"{name} differs", hint=EXPORT_AGAIN
            )
    return sha256_file(folder / CHECKSUMS)


def _checksums(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    if not _is_plain(path):
        raise BrokenBundle("a bundle must be a folder with checksums.json", found="none", hint="name a bundle's folder")
    content = _read(path)
    # Their hash names the bundle, so they may be written in one way only.
    sealed = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if not isinstance(content, dict) or path.read_bytes() != sealed.encode():
        raise BrokenBundle("checksums.json must be as it was sealed", found="other text", hint=EXPORT_AGAIN)
    return content


def _is_plain(path: Path) -> bool:
    """A link could lead out of the folder, and a pipe would never end."""
    return path.is_file() and not path.is_symlink()


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except UserError as error:
        raise BrokenBundle(error.must, found=error.found, hint=EXPORT_AGAIN) from error


def read_meta(folder: Path) -> dict[str, Any]:
    """bundle.json, if this medloop knows its format."""
    meta = _read(folder / META)
    found = meta.get("format") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or type(found) is not int or found != FORMAT:
        raise BrokenBundle(
            f"bundle.json must have format {FORMAT}",
            found=f"format {found!r}",
            hint="use the medloop that wrote it, or export again with this one",
        )
    return meta
