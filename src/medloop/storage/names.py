"""File names: which untrusted names are safe, and how names are stored as text and displayed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

MAX_PART_BYTES = 255
MAX_NAME_BYTES = 1024
DRIVE = re.compile(r"[A-Za-z]:")
# No path of the system begins like this, since it never has two slashes in a row.
ENCODED = "file://"
# Bytes that are not UTF-8, as Python represents them in a file name.
SURROGATES = re.compile("[\udc80-\udcff]")
# Characters that move the cursor, change the text direction or are invisible, by Unicode category.
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def stored_paths(paths: Sequence[str]) -> list[str]:
    """Return paths as valid text: a path that is not UTF-8 becomes a percent-encoded file:// address."""
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:
        return [_encoded(path) if SURROGATES.search(path) else path for path in paths]
    return list(paths)


def local_path(stored: str) -> str:
    """Return the path of a stored text."""
    if not stored.startswith(ENCODED):
        return stored
    return unquote(stored.removeprefix(ENCODED), errors="surrogateescape")


def utf8(name: str) -> str:
    """Return a name as text, with bytes that are not UTF-8 written as escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def visible(text: str, *, keep: str = "") -> str:
    """Return a text with invisible and control characters escaped, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if _is_invisible(letter) and letter not in keep else letter
        for letter in utf8(text)
    )


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in INVISIBLE


def _encoded(path: str) -> str:
    return ENCODED + SURROGATES.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", path.replace("%", "%25"))


def why_unsafe(name: str) -> str | None:
    """Return why a file of this name is unsafe to create, if it is."""
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
    """Return whether a file is metadata that macOS adds to archives."""
    return "__MACOSX" in path.parts or path.name == ".DS_Store" or path.name.startswith("._")


class TakenNames:
    """The names in one folder, compared as on a file system that ignores case and Unicode forms."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.folders: set[str] = {"."}

    def take(self, path: PurePosixPath, *, folder: bool) -> bool:
        """Add a name with its folders; return False if it is taken already."""
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
