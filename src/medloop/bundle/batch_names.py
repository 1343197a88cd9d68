"""What the files of a run are called: by case ids, and by their names, which may be patients', only where asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medloop.bundle.whose import resolved
from medloop.case import case_id
from medloop.prepare.csv_cells import SIGNS
from medloop.storage.names import stored_paths, visible

MANY = " | "


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """The id of each file: as ingest gives it to the file of this name below the place that was given."""

    ids: Mapping[str, str] = field(repr=False)
    # Places that lead to one file, as the user typed them.
    typed: frozenset[str] = field(repr=False)
    show: bool = False

    @classmethod
    def of(cls, places: Mapping[str, str], *, source: str, show: bool) -> FileNames:
        """Name the files, each given with the place that led to it."""
        keys = {uri: _below(uri, place) for uri, place in places.items()}
        counts = Counter(keys.values())
        # Of two places, each may hold a file of this name.
        ids = {uri: case_id(source, key if counts[key] == 1 else resolved(uri)) for uri, key in keys.items()}
        return cls(ids=ids, typed=frozenset(uri for uri, place in places.items() if uri == place), show=show)

    def columns(self, *uris: str, name: str | None = None) -> dict[str, str | None]:
        """Return what an answer says of its files."""
        # A name that begins like a formula would be one where a table is opened.
        names = [f"./{one}" if one.startswith(tuple(SIGNS)) else one for one in ([name] if name else uris)]
        shown = stored_paths(names) if self.show else None
        return {"case": MANY.join(self.ids[uri] for uri in uris), "file": MANY.join(shown) if shown else None}

    def told(self, uri: str) -> str:
        """Return what an answer's text calls a file."""
        return visible(uri) if self.show else f"case {self.ids[uri]}"

    def told_user(self, uri: str) -> str:
        """Return what a message to the one who typed the command calls a file."""
        return visible(uri.rpartition("/")[2]) if self.show or uri in self.typed else f"case {self.ids[uri]}"


def _below(uri: str, place: str) -> str:
    """The way from the place to the file; for a lone file and one that a pattern found its own name."""
    folder = place.rstrip("/") + "/" if "://" in place else f"{Path(place).expanduser()}/"
    return uri.removeprefix(folder) if uri.startswith(folder) and uri != place else uri.rpartition("/")[2]
