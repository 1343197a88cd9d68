"""Plots that a reader understands: confusion, ROC, precision-recall, reliability."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from medloop.evaluate.figures import Measured
from medloop.metrics.counts import confusion
from medloop.metrics.curves import precision_recall_points, roc_points

INK, ACCENT, SOFT = "#1b2733", "#0b6e75", "#9aa8b4"
STYLE: dict[str, Any] = {
    "font.size": 10, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 130,
}  # fmt: skip
BINS = 10

Draw = Callable[[Any], None]


def picture(draw: Draw, *, size: tuple[float, float] = (4.6, 4.2)) -> bytes:
    """A PNG of what `draw` puts on the axes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def confusion_matrix(measured: Measured) -> bytes:
    """Rows are the truth, columns the decision."""
    counts = confusion(measured.truth, measured.decisions.argmax(axis=1), len(measured.names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Any) -> None:
        axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1.4)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center")
        axes.set_xticks(range(len(measured.names)), measured.names)
        axes.set_yticks(range(len(measured.names)), measured.names, rotation=90, va="center")
        axes.set_xlabel("decided")
        axes.set_ylabel("true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return picture(draw)


def curves(measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """The points of the ROC, precision-recall and reliability curves, class by class."""
    points: dict[str, list[dict[str, Any]]] = {"roc": [], "precision_recall": [], "reliability": []}
    for number in _shown(measured):
        name, truth, share = measured.names[number], measured.truth == number, measured.shares[:, number]
        if truth.all() or not truth.any():
            continue
        false, true = roc_points(truth, share)
        points["roc"] += [{"class": name, "fpr": float(f), "tpr": float(t)} for f, t in zip(false, true, strict=True)]
        precision, recall = precision_recall_points(truth, share)
        points["precision_recall"] += [
            {"class": name, "recall": float(r), "precision": float(p)} for p, r in zip(precision, recall, strict=True)
        ]
        points["reliability"] += _reliability(name, truth, share)
    return points


def _shown(measured: Measured) -> range:
    """Of two classes the positive one, of more all."""
    return range(1, 2) if len(measured.names) == 2 else range(len(measured.names))


def _reliability(name: str, truth: Any, share: Any) -> list[dict[str, Any]]:
    bins = np.minimum((share * BINS).astype(int), BINS - 1)
    return [
        {
            "class": name,
            "predicted": float(share[bins == b].mean()),
            "observed": float(truth[bins == b].mean()),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def curve(points: list[dict[str, Any]], x: str, y: str, labels: tuple[str, str], *, diagonal: bool) -> bytes:
    """One line a class."""

    def draw(axes: Any) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
        for number, name in enumerate(dict.fromkeys(point["class"] for point in points)):
            mine = [point for point in points if point["class"] == name]
            colour = ACCENT if number == 0 else f"C{number}"
            marker = "o" if "n" in mine[0] else None
            axes.plot([p[x] for p in mine], [p[y] for p in mine], color=colour, marker=marker, markersize=4, label=name)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=labels[0], ylabel=labels[1], aspect="equal")
        if points:
            axes.legend(frameon=False, loc="lower right" if x != "recall" else "lower left")

    return picture(draw)
