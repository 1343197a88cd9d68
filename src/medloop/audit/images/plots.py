"""The plots on the audit's page: class counts, image sizes, and the AUC of the probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medloop.audit.images.probes import SHORTCUTS, Probe
from medloop.page.plot import ACCENT, COLOURS, SEVERE, SOFT, draw_png, shorten

MAX_POINTS = 4000
MAX_LABEL_LENGTH = 26


def class_counts_plot(labels: pd.Series[str]) -> bytes:
    """Draw a bar for each class."""
    counts = labels.value_counts().sort_index()

    def draw(axes: Any) -> None:
        places = np.arange(len(counts))
        axes.barh(places, counts.to_numpy(), color=ACCENT, height=0.6)
        for place, count in zip(places, counts, strict=True):
            axes.text(count, place, f" {count}", va="center")
        axes.set_yticks(places, [shorten(str(name), MAX_LABEL_LENGTH) for name in counts.index])
        axes.invert_yaxis()
        axes.set_xlabel("images")
        axes.margins(x=0.15)

    return draw_png(draw, size=(4.8, 1.2 + 0.35 * len(counts)))


def sizes_plot(table: pd.DataFrame) -> bytes:
    """Draw a point for each image, coloured by class."""
    sample = table if len(table) <= MAX_POINTS else table.sample(MAX_POINTS, random_state=0)
    jitter = np.random.default_rng(0).uniform(0.99, 1.01, size=(2, len(sample)))
    labels = sample["label"].to_numpy(object)
    width, height = sample["width"].to_numpy(float) * jitter[0], sample["height"].to_numpy(float) * jitter[1]

    def draw(axes: Any) -> None:
        for number, label in enumerate(sorted(set(labels))):
            here, colour = labels == label, COLOURS[number % len(COLOURS)]
            axes.scatter(
                width[here], height[here], s=9, alpha=0.5, color=colour, label=shorten(str(label), MAX_LABEL_LENGTH)
            )
        axes.set(xlabel="width in pixels", ylabel="height in pixels")
        axes.set_xlim(0.9 * width.min(), 1.1 * width.max())
        axes.set_ylim(0.9 * height.min(), 1.1 * height.max())
        axes.legend(frameon=False, fontsize=8, markerscale=2)

    return draw_png(draw, size=(4.8, 4.0))


def probes_plot(probes: Sequence[Probe], *, floor: float, names: Mapping[str, str]) -> bytes:
    """Draw the AUC of each probe and class with its interval; red where the probe found a shortcut."""
    lines = [(probe, label) for probe in probes for label in probe.by_class]

    def draw(axes: Any) -> None:
        for place, (probe, label) in enumerate(lines):
            auc = probe.by_class[label]
            colour = SEVERE if probe.name in SHORTCUTS and probe.fires(floor) else ACCENT
            axes.plot([auc.lower, auc.upper], [place, place], color=colour, linewidth=1.6)
            axes.plot([auc.value], [place], "o", color=colour, markersize=4.5)
        ticks = [f"{names[probe.name]}: {shorten(label, MAX_LABEL_LENGTH)}" for probe, label in lines]
        axes.set_yticks(range(len(lines)), ticks, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0.5, color=SOFT, linestyle=":", linewidth=1)
        axes.set(xlim=(0.3, 1.02), xlabel="AUC against the other classes (0.5 is chance)")

    return draw_png(draw, size=(7.4, 1.0 + 0.24 * len(lines)))
