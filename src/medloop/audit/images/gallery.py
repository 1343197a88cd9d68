"""The montages of the audit's page: a seeded choice of classes, copies, outliers and doubtful labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from medloop.audit.images.features import COLOURED, ImageSummaries, Read
from medloop.audit.images.label_errors import Doubt
from medloop.audit.images.messages import MAX_BLANK_SPREAD, MAX_OUTLIER_SHARE
from medloop.audit.images.montage import Montage, Tile, draw_montage
from medloop.audit.images.probes import Task
from medloop.audit.images.shortcuts import column_or_blank

Groups = Sequence[Sequence[int]]
COLUMNS, CLASS_ROWS, MAX_CLASSES, MAX_GROUPS, MAX_DOUBTS = 8, 2, 12, 14, 24


class Gallery:
    """Draws the montages of one manifest; reads only the images that it shows."""

    def __init__(self, table: pd.DataFrame, read: Read, summaries: ImageSummaries) -> None:
        self.read, self.summaries = read, summaries
        self.paths = table["path"].to_numpy(object)
        self.names = table["display_name"].to_numpy(object)
        self.labels = table["label"].to_numpy(object)
        self.given = column_or_blank(table, "given").to_numpy(object)

    def classes(self) -> Iterator[Montage]:
        """Yield a random sample of each class."""
        rng = np.random.default_rng(0)
        for label in sorted(set(self.labels))[:MAX_CLASSES]:
            mine = rng.permutation(np.flatnonzero(self.labels == label))[: COLUMNS * CLASS_ROWS]
            yield from self._sheet("class", f"{label}: random sample of {len(mine)}", sorted(mine.tolist()))

    def duplicates(self, groups: Groups, *, kind: str, caption: str) -> Iterator[Montage]:
        """Yield one group a row; those on both sides of the split or with two labels come first."""
        ordered = sorted(groups, key=lambda group: (-self._conflicts(group), -len(group), group[0]))[:MAX_GROUPS]
        rows = [
            [self._tile(place, caption=self._label_and_part(place)) for place in group[:COLUMNS]] for group in ordered
        ]
        rows = [row for row in rows if row]
        if rows:
            shown = f" ({len(rows)} of {len(groups)} groups)" if len(rows) < len(groups) else ""
            yield Montage(kind=kind, caption=f"{caption}; each row is one group{shown}", jpeg=draw_montage(rows))

    def outliers(self) -> Iterator[Montage]:
        """Yield the images with colour, with marks or without content, where these are rare."""
        for caption, found in (
            ("Coloured images", self.summaries.coloured > COLOURED),
            ("Images with a bright patch in a corner", self.summaries.marked),
            ("Almost uniform images", self.summaries.spread < MAX_BLANK_SPREAD),
        ):
            if 0 < found.mean() <= MAX_OUTLIER_SHARE:
                yield from self._sheet("odd", caption, np.flatnonzero(found)[: 2 * COLUMNS].tolist(), labelled=True)

    def doubts(self, task: Task, doubts: Sequence[Doubt]) -> Iterator[Montage]:
        """Yield the most doubtful labels, each with the class that the image resembles."""
        tiles = [
            self._tile(
                int(task.places[doubt.place]), caption=f"{task.names[doubt.given]} → {task.names[doubt.suggested]}?"
            )
            for doubt in doubts[:MAX_DOUBTS]
        ]
        if tiles:
            rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
            caption = "Label → class predicted by a simple model, most doubtful first"
            yield Montage(kind="doubt", caption=caption, jpeg=draw_montage(rows))

    def _sheet(self, kind: str, caption: str, places: Sequence[int], *, labelled: bool = False) -> Iterator[Montage]:
        tiles = [self._tile(n, caption=self._label_and_part(n) if labelled else self._name(n)) for n in places]
        rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
        if rows:
            yield Montage(kind=kind, caption=caption, jpeg=draw_montage(rows))

    def _tile(self, place: int, *, caption: str) -> Tile:
        broken = place in self.summaries.broken
        pixels = np.zeros((8, 8), np.uint8) if broken else self.read(str(self.paths[place]))
        return Tile(pixels=pixels, caption=caption)

    def _name(self, place: int) -> str:
        return PurePosixPath(self.names[place]).name

    def _label_and_part(self, place: int) -> str:
        given = self.given[place]
        return f"{given}: {self.labels[place]}" if isinstance(given, str) and given else str(self.labels[place])

    def _conflicts(self, group: Sequence[int]) -> int:
        return len({self.labels[place] for place in group}) + len({str(self.given[place]) for place in group})
