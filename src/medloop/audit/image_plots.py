"""Plots of the audit's page: how many, how large, and what the probes can tell."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medloop.audit.probes import Probe

INK, ACCENT, SOFT, SEVERE = "#1b2733", "#0b6e75", "#9aa8b4", "#b3261e"
STYLE: dict[str, Any] = {
    "font.size": 10, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110,
}  # fmt: skip
MOST_POINTS = 4000


def class_counts(labels: pd.Series[str]) -> bytes:
    """A bar for each class."""
    counts = labels.value_counts().sort_index()

    def draw(axes: Any) -> None:
        places = np.arange(len(counts))
        axes.barh(places, counts.to_numpy(), color=ACCENT, height=0.6)
        for place, count in zip(places, counts, strict=True):
            axes.text(count, place, f" {count}", va="center")
        axes.set_yticks(places, [_short(name) for name in counts.index])
        axes.invert_yaxis()
        axes.set_xlabel("images")
        axes.margins(x=0.15)

    return _picture(draw, size=(4.8, 1.2 + 0.35 * len(counts)))


def sizes(table: pd.DataFrame) -> bytes:
    """A dot for each image, its class in colour."""
    some = table if len(table) <= MOST_POINTS else table.sample(MOST_POINTS, random_state=0)
    shake = np.random.default_rng(0).uniform(0.99, 1.01, size=(2, len(some)))

    def draw(axes: Any) -> None:
        for number, (label, mine) in enumerate(some.groupby("label")):
            here = some["label"].to_numpy(object) == label
            width, height = mine["width"].to_numpy(float), mine["height"].to_numpy(float)
            axes.scatter(
                width * shake[0, here], height * shake[1, here], s=9, alpha=0.5, color=f"C{number % 10}", label=label
            )
        axes.set(xlabel="width in pixels", ylabel="height in pixels")
        axes.legend(frameon=False, fontsize=8, markerscale=2)

    return _picture(draw, size=(4.8, 4.0))


def forest(probes: Sequence[Probe], *, floor: float, names: dict[str, str]) -> bytes:
    """The AUC of each probe and class with its interval; in red where the probe raises an alarm."""
    lines = [(probe, label) for probe in probes for label in probe.by_class]

    def draw(axes: Any) -> None:
        for place, (probe, label) in enumerate(lines):
            one = probe.by_class[label]
            loud = probe.name in ("metadata", "file_name", "border") and probe.fires(floor)
            colour = SEVERE if loud else ACCENT
            axes.plot([one.lower, one.upper], [place, place], color=colour, linewidth=1.6)
            axes.plot([one.value], [place], "o", color=colour, markersize=4.5)
        words = [f"{names[probe.name]}: {_short(label)}" for probe, label in lines]
        axes.set_yticks(range(len(lines)), words, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0.5, color=SOFT, linestyle=":", linewidth=1)
        axes.set(xlim=(0.3, 1.02), xlabel="AUC against the other classes (0.5 is chance)")

    return _picture(draw, size=(7.4, 1.0 + 0.24 * len(lines)))


def _short(name: object, *, most: int = 26) -> str:
    text = str(name)
    return text if len(text) <= most else text[: most - 1] + "…"


def _picture(draw: Callable[[Any], None], *, size: tuple[float, float]) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
