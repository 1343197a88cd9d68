"""The names that archives, prefixes and addresses bring along, and which of them may become files."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

MAX_PART_BYTES = 255
MAX_NAME_BYTES = 1024
DRIVE = re.compile(r"[A-Za-z]:")


def why_unsafe(name: str) -> str | None:
    """Why a file of this name could land somewhere else or nowhere, if so."""
    path = PurePosixPath(name)
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    rules = {
        "it has no name": not name,
        "its name has control characters": any(unicodedata.category(letter) == "Cc" for letter in name),
        "its name is an absolute path": path.is_absolute(),
        "its name has '..'": ".." in path.parts,
        "its name has a backslash": "\\" in name,
        "its name begins with a drive": DRIVE.match(name) is not None,
        "its name is too long": len(encoded) > MAX_NAME_BYTES
        or any(len(part.encode("utf-8")) > MAX_PART_BYTES for part in path.parts),
    }
    return next((reason for reason, broken in rules.items() if broken), None)


def is_litter(path: PurePosixPath) -> bool:
    """Whether a file is what macOS adds to archives and nobody wants."""
    return "__MACOSX" in path.parts or path.name == ".DS_Store" or path.name.startswith("._")


class TakenNames:
    """The names in one folder, told apart as the least able file system would."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.folders: set[str] = {"."}

    def take(self, path: PurePosixPath, *, folder: bool) -> bool:
        """Take a name with its folders; False where a file has it already."""
        keys = [_key(parent) for parent in (path, *path.parents)]
        above = keys if folder else keys[1:]
        if not self.files.isdisjoint(above):
            return False
        self.folders.update(above)
        if folder:
            return True
        if keys[0] in self.files or keys[0] in self.folders:
            return False
        self.files.add(keys[0])
        return True


def _key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path).casefold())
