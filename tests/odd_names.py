"""Names that files may have: of patients, and of bytes that a terminal, a page or a table cannot take."""

from __future__ import annotations

import os
from pathlib import Path

PATIENT = "DOE^JANE"
ODD = [
    b"two\nlines.png",
    b"right\xe2\x80\xaeleft.png",
    b"caf\xe9 %41%.png",
    b"caf\xe9.png",
    b"caf%E9.png",
    b"\xff\xfe.png",
    b"file:.png",
    b"quote's \"<b>.png",
    "Größe.png".encode(),
    b"x" * 251 + b".png",
    f"{PATIENT}.png".encode(),
]


def write(folder: Path, name: bytes, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / os.fsdecode(name)).write_bytes(data)
