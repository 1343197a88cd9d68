"""The names of the files of a run: case ids, and file names (which may be patients' names) only on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medloop.bundle.batch.ownership import resolved
from medloop.case import case_id
from medloop.prepare.csv_cells import SIGNS
from medloop.storage.names import stored_paths, visible

SEPARATOR = " | "


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """The id of each file, the same as ingest assigns to the file of this name below the given path."""

    ids: Mapping[str, str] = field(repr=False)
    # Paths of single files, as the user typed them.
    typed: frozenset[str] = field(repr=False)
    show: bool = False

    @classmethod
    def of(cls, places: Mapping[str, str], *, source: str, show: bool) -> FileNames:
        """Name the files, each given with the path that led to it."""
        keys = {uri: _below(uri, place) for uri, place in places.items()}
        counts = Counter(keys.values())
        # Two paths may each lead to a file of this name.
        ids = {uri: case_id(source, key if counts[key] == 1 else resolved(uri)) for uri, key in keys.items()}
        return cls(ids=ids, typed=frozenset(uri for uri, place in places.items() if uri == place), show=show)

    def columns(self, *uris: str, name: str | None = None) -> dict[str, str | None]:
        """Return the columns that identify the files of a prediction."""
        # A spreadsheet would run a name that begins like a formula.
        names = [f"./{one}" if one.startswith(tuple(SIGNS)) else one for one in ([name] if name else uris)]
        paths = stored_paths(names) if self.show else None
        return {"case": SEPARATOR.join(self.ids[uri] for uri in uris), "file": SEPARATOR.join(paths) if paths else None}

    def label(self, uri: str) -> str:
        """Return the name of a file for the text of a prediction."""
        return visible(uri) if self.show else f"case {self.ids[uri]}"

    def message_label(self, uri: str) -> str:
        """Return the name of a file for a message to the user who typed the command."""
        return visible(uri.rpartition("/")[2]) if self.show or uri in self.typed else f"case {self.ids[uri]}"


def _below(uri: str, place: str) -> str:
    """Return the path from the place to the file, or the name of a single file or one found by a pattern."""
    folder = place.rstrip("/") + "/" if "://" in place else f"{Path(place).expanduser()}/"
    return uri.removeprefix(folder) if uri.startswith(folder) and uri != place else uri.rpartition("/")[2]
