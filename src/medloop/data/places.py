"""The places and keys that a source works with: local paths for addresses, folders, the key that hides patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medloop.decode.examine import FRAMES
from medloop.decode.kept import Derived
from medloop.decode.raster import DEFAULT_RULE
from medloop.decode.rule import DecodeRule


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a source reads and writes files; calling it returns a local path for any address."""

    local: Callable[[str], Path]
    root: Path
    raw: Path
    patient_key: bytes | None = field(default=None, repr=False)
    # How files of several frames are read.
    rule: DecodeRule = DEFAULT_RULE
    # The arrays that the next stages need of each picture, and the folder that keeps them, if there is one.
    derived: tuple[Derived, ...] = ()
    kept: Path | None = None

    def __call__(self, uri: str) -> Path:
        """Return the file or folder at an address, downloaded and unpacked if necessary."""
        return self.local(uri)

    @property
    def frames(self) -> Path:
        """Return the folder for frames that are separate pictures."""
        return self.raw.with_name(FRAMES)

    def display_path(self, path: Path) -> str:
        """Return the path for the manifest: relative to the project's folder if it is inside."""
        absolute = path.resolve()
        return absolute.relative_to(self.root).as_posix() if absolute.is_relative_to(self.root) else str(absolute)
