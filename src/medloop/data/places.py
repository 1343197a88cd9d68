"""What a source is given: local paths for addresses, a folder of its own, and the key that hides patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medloop.prepare.decode import DEFAULT_RULE
from medloop.prepare.examine import FRAMES
from medloop.prepare.rule import DecodeRule


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a source finds and puts files; calling it gives a local path for any address."""

    local: Callable[[str], Path]
    root: Path
    raw: Path
    patient_key: bytes | None = field(default=None, repr=False)
    # How a file of many frames is read.
    rule: DecodeRule = DEFAULT_RULE

    def __call__(self, uri: str) -> Path:
        """The file or folder at an address, fetched and unpacked where it must be."""
        return self.local(uri)

    @property
    def frames(self) -> Path:
        """Where frames are written that are pictures of their own."""
        return self.raw.with_name(FRAMES)

    def shown(self, path: Path) -> str:
        """The path as the manifest names it: from the project's folder where it lies within."""
        absolute = path.resolve()
        return absolute.relative_to(self.root).as_posix() if absolute.is_relative_to(self.root) else str(absolute)
