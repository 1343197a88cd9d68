"""Replacement of files in repeatable steps, so that an interrupted one can be finished later."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medloop.storage import write_text

STAGED = ".restoring"
IGNORE = ".gitignore"


@dataclass(frozen=True, kw_only=True)
class Swap:
    """The files that come into a folder, `last` at the end, and those set aside; all moves stay within the folder."""

    folder: Path
    aside: str
    others: Callable[[], Iterable[str]]
    last: str = ""

    def stage(self, incoming: Mapping[str, Path], copy: Callable[[Path, Path], None]) -> None:
        """Copy the incoming files to a hidden folder next to their destination."""
        self.clear()
        _make_hidden(self._staged)
        for name, source in incoming.items():
            copy(source, self._staged / name)

    def set_aside(self) -> None:
        """Move existing files aside, before any file is placed."""
        for name in [*self.others(), *self._names()]:
            self._move_away(name)

    def place(self) -> None:
        """Move the staged files to their destination; those already moved stay there."""
        for name in self._names():
            self._move_away(name)
            (self._staged / name).rename(self.folder / name)
        self.clear()

    def clear(self) -> None:
        """Remove the staging folder."""
        shutil.rmtree(self._staged, ignore_errors=True)

    def kept(self) -> Path | None:
        """Return the folder of what was set aside, if anything was."""
        aside = self.folder / self.aside
        return aside if aside.is_dir() else None

    @property
    def _staged(self) -> Path:
        return self.folder / STAGED

    def _names(self) -> list[str]:
        names = [path.name for path in self._staged.glob("*") if path.name != IGNORE]
        return sorted(names, key=lambda name: (name == self.last, name))

    def _move_away(self, name: str) -> None:
        path = self.folder / name
        if not path.exists() and not path.is_symlink():
            return
        aside = self.folder / self.aside
        _make_hidden(aside)
        target = aside / name
        while target.exists():
            target = target.with_name(f"{target.name}~")
        path.rename(target)


def _make_hidden(folder: Path) -> None:
    """Create a folder that only its owner can read and Git ignores."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / IGNORE).exists():
        write_text(folder / IGNORE, "*\n")
