"""The files of image cases, read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from medloop.errors import UserError
from medloop.storage.names import local_path


class FileBytes(Sequence[bytes]):
    """The bytes of the cases' files; each is read when it is asked for and not kept."""

    def __init__(self, root: Path, cases: Any) -> None:
        self._root = root
        self._files = list(zip(cases["path"], cases["case_id"], strict=True))

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [read_case(self._root, *file) for file in self._files[place]]
        return read_case(self._root, *self._files[place])


def read_case(root: Path, path: str, case_id: str) -> bytes:
    """Return the bytes of a case's file, which existed when the case was ingested."""
    try:
        return (root / local_path(path)).read_bytes()
    except OSError as error:
        raise UserError(
            f"The file of case {case_id} cannot be read: {error.strerror}.",
            f"`medloop cases {case_id}` prints its path: restore the file, or run `medloop ingest` again.",
        ) from None
