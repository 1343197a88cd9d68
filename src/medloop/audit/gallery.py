"""Which pictures the page shows: classes, duplicates, doubts and oddities, chosen without regard to luck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from medloop.audit.features import COLOURED, Looks, Read
from medloop.audit.image_findings import BLANK
from medloop.audit.label_errors import Doubt
from medloop.audit.montage import Montage, Tile, montage
from medloop.audit.probes import Task
from medloop.audit.shortcuts import optional

Groups = Sequence[Sequence[int]]
ACROSS, CLASS_ROWS, MOST_CLASSES, MOST_GROUPS, MOST_DOUBTS = 8, 2, 12, 14, 24


class Gallery:
    """Draws the montages of one manifest; reads again only the pictures that it shows."""

    def __init__(self, table: pd.DataFrame, read: Read, looks: Looks) -> None:
        self.table, self.read, self.looks = table, read, looks
        self.paths = table["path"].to_numpy(object)
        self.shown = table["shown"].to_numpy(object)
        self.labels = table["label"].to_numpy(object)
        self.given = optional(table, "given").to_numpy(object)

    def classes(self) -> Iterator[Montage]:
        """Some of each class, drawn by lot."""
        rng = np.random.default_rng(0)
        for label in sorted(set(self.labels))[:MOST_CLASSES]:
            mine = rng.permutation(np.flatnonzero(self.labels == label))[: ACROSS * CLASS_ROWS]
            yield from self._sheet("class", f"{label}: {len(mine)} drawn by lot", sorted(mine.tolist()))

    def duplicates(self, groups: Groups, *, kind: str, caption: str) -> Iterator[Montage]:
        """One group a row; those on both sides of the split or with two labels come first."""
        ordered = sorted(groups, key=lambda group: (-self._odd(group), -len(group), group[0]))[:MOST_GROUPS]
        rows = [[self._tile(place, words=self._whose(place)) for place in group[:ACROSS]] for group in ordered]
        rows = [row for row in rows if row]
        if rows:
            left_out = f" ({len(rows)} of {len(groups)} groups)" if len(rows) < len(groups) else ""
            yield Montage(kind=kind, caption=f"{caption}; one group a row{left_out}", jpeg=montage(rows))

    def oddities(self) -> Iterator[Montage]:
        """Pictures with colour, marks or nothing on them, where these are rare."""
        for caption, found in (
            ("with colour", self.looks.coloured > COLOURED),
            ("with a bright patch in a corner", self.looks.marked),
            ("nearly blank", self.looks.spread < BLANK),
        ):
            if 0 < found.mean() <= 0.2:
                yield from self._sheet("odd", caption, np.flatnonzero(found)[: 2 * ACROSS].tolist(), labelled=True)

    def doubts(self, task: Task, doubts: Sequence[Doubt]) -> Iterator[Montage]:
        """The most doubtful labels, each with the class that it looks like."""
        tiles = [
            self._tile(
                int(task.places[doubt.place]), words=f"{task.names[doubt.given]} → {task.names[doubt.suggested]}?"
            )
            for doubt in doubts[:MOST_DOUBTS]
        ]
        if tiles:
            rows = [tiles[start : start + ACROSS] for start in range(0, len(tiles), ACROSS)]
            caption = "Given class → class that it looks like to a simple model, the most doubtful first"
            yield Montage(kind="doubt", caption=caption, jpeg=montage(rows))

    def _sheet(self, kind: str, caption: str, places: Sequence[int], *, labelled: bool = False) -> Iterator[Montage]:
        tiles = [self._tile(n, words=self._whose(n) if labelled else self._name(n)) for n in places]
        rows = [tiles[start : start + ACROSS] for start in range(0, len(tiles), ACROSS)]
        if rows:
            yield Montage(kind=kind, caption=caption, jpeg=montage(rows))

    def _tile(self, place: int, *, words: str) -> Tile:
        broken = place in self.looks.broken
        pixels = np.zeros((8, 8), np.uint8) if broken else self.read(str(self.paths[place]))
        return Tile(pixels=pixels, words=words)

    def _name(self, place: int) -> str:
        return PurePosixPath(self.shown[place]).name

    def _whose(self, place: int) -> str:
        given = self.given[place]
        return f"{given}: {self.labels[place]}" if isinstance(given, str) and given else str(self.labels[place])

    def _odd(self, group: Sequence[int]) -> int:
        return len({self.labels[place] for place in group}) + len({str(self.given[place]) for place in group})
