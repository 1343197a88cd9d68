"""Plots that a reader understands: what was decided, and how sure the figures are."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medloop.evaluate.figures import Measured
from medloop.metrics.counts import confusion
from medloop.metrics.curves import precision_recall_points, roc_points
from medloop.metrics.proportions import wilson_clustered

INK, ACCENT, SOFT, WARM = "#1b2733", "#0b6e75", "#9aa8b4", "#b35c00"
# Told apart by people who do not see red or green, and in grey by their markers.
COLOURS = (ACCENT, WARM, "#5b4b9a", "#2f7fc1", "#8a8d00", "#a03060", "#4d4d4d", "#3c9d5d")
STYLE: dict[str, Any] = {
    "font.size": 11, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 130,
    "grid.color": "#e3e9ee", "axes.axisbelow": True,
}  # fmt: skip
BINS = 10

Draw = Callable[[Any], None]
Points = list[dict[str, Any]]


def picture(draw: Draw, *, size: tuple[float, float] = (5.0, 4.5)) -> bytes:
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


def confusion_matrix(names: Sequence[str], counts: Any) -> bytes:
    """Rows are the truth, columns the decision."""
    shares = np.asarray(counts) / np.maximum(np.sum(counts, axis=1, keepdims=True), 1)
    wide = len(names)

    def draw(axes: Any) -> None:
        axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1.4)
        for (row, column), count in np.ndenumerate(np.asarray(counts)):
            weight = "bold" if row == column else "normal"
            text = f"{count}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", weight=weight)
        shown = [_folded(name) for name in names]
        axes.set_xticks(range(wide), shown, rotation=0 if wide < 4 else 30)
        axes.set_yticks(range(wide), shown, rotation=90 if wide < 4 else 0, va="center")
        axes.set_xlabel("decided")
        axes.set_ylabel("true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    side = 4.4 + 0.55 * max(0, wide - 2)
    return picture(draw, size=(side + 0.4, side))


def _folded(name: str, width: int = 18) -> str:
    """A long list of classes on several lines."""
    lines = [""]
    for word in name.split(" "):
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(lines)


def matrix(measured: Measured) -> Any:
    """How often each shown class was decided as each."""
    return confusion(measured.truth, measured.chosen, len(measured.names))


def curves(measured: Measured) -> dict[str, Points]:
    """The points of the ROC, precision-recall and reliability curves, class by class."""
    points: dict[str, Points] = {"roc": [], "precision_recall": [], "reliability": []}
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
        points["reliability"] += _reliability(name, truth, share, np.array(measured.groups))
    return points


def _shown(measured: Measured) -> range:
    """Of two classes the positive one, of more all."""
    return range(1, 2) if len(measured.names) == 2 else range(len(measured.names))


def _reliability(name: str, truth: Any, share: Any, groups: Any) -> Points:
    """Bins of equal width, each with the interval of what was observed."""
    bins = np.minimum((share * BINS).astype(int), BINS - 1)
    rows = []
    for b in np.unique(bins):
        inside = bins == b
        found = wilson_clustered(truth[inside], groups[inside])
        rows.append(
            {
                "class": name,
                "predicted": float(share[inside].mean()),
                "observed": found.value,
                "n": int(inside.sum()),
                "lower": found.lower,
                "upper": found.upper,
            }
        )
    return rows


def roc(points: Points, report: Mapping[str, Any]) -> bytes:
    """Sensitivity against false alarms, with the point at which the bundle works."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2, label="chance")
        _lines(axes, points, "fpr", "tpr", labels=_areas(report, points, "roc_auc"), filled=True)
        figures = report["test"]
        if len(report["test_counts"]) == 2 and None not in (
            figures["recall"]["value"],
            figures["specificity"]["value"],
        ):
            _operating(axes, 1 - figures["specificity"]["value"], figures["recall"]["value"])
        _square(axes, "false alarms (1 - specificity)", "found (sensitivity)")
        axes.legend(frameon=False, loc="lower right", fontsize=9)

    return picture(draw)


def precision_recall(points: Points, report: Mapping[str, Any]) -> bytes:
    """How many alarms are right against how many cases are found."""

    def draw(axes: Any) -> None:
        counts = report["test_counts"]
        if len(counts) == 2:
            share = list(counts.values())[1] / max(sum(counts.values()), 1)
            axes.axhline(share, color=SOFT, linestyle=":", linewidth=1.2, label=f"chance ({share:.0%} are positive)")
        _lines(axes, points, "recall", "precision", labels=_areas(report, points, "pr_auc"), filled=False)
        figures = report["test"]
        if len(counts) == 2 and None not in (figures["recall"]["value"], figures["precision"]["value"]):
            _operating(axes, figures["recall"]["value"], figures["precision"]["value"])
        _square(axes, "found (sensitivity)", "alarms that are right (precision)")
        axes.legend(frameon=False, loc="lower left", fontsize=9)

    return picture(draw)


def reliability(points: Points) -> bytes:
    """The observed share against the predicted one, with intervals and how many cases lie where."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2, label="can be taken at its word")
        for number, name in enumerate(dict.fromkeys(point["class"] for point in points)):
            mine = [point for point in points if point["class"] == name]
            x, y = [p["predicted"] for p in mine], [p["observed"] for p in mine]
            reach = [[p["observed"] - p["lower"] for p in mine], [p["upper"] - p["observed"] for p in mine]]
            colour = COLOURS[number % len(COLOURS)]
            axes.errorbar(
                x, y, np.abs(reach), color=colour, marker="o", markersize=4, linewidth=1.4, label=_short(name)
            )
            if len({point["class"] for point in points}) == 1:
                for point in mine:
                    axes.annotate(
                        f"{point['n']}",
                        (point["predicted"], point["upper"]),
                        (0, 3),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8,
                        color=INK,
                    )
        _square(axes, "predicted probability", "observed share")
        axes.legend(frameon=False, loc="lower right", fontsize=9)

    return picture(draw)


def _areas(report: Mapping[str, Any], points: Points, metric: str) -> dict[str, str]:
    """The name of each line with its area."""
    names = list(dict.fromkeys(point["class"] for point in points))
    if len(report["test_counts"]) == 2:
        value = report["test"][metric]["value"]
        return dict.fromkeys(names, "the model" if value is None else f"the model: area {value:.3f}")
    figures = {name: report["by_class"].get(name, {}).get(metric) for name in names}
    return {
        name: name if not one or one["value"] is None else f"{name}: {one['value']:.3f}"
        for name, one in figures.items()
    }


def _lines(axes: Any, points: Points, x: str, y: str, *, labels: Mapping[str, str], filled: bool) -> None:
    for number, name in enumerate(labels):
        mine = [point for point in points if point["class"] == name]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot([p[x] for p in mine], [p[y] for p in mine], color=colour, linewidth=1.8, label=_short(labels[name]))
        if filled and len(labels) == 1:
            axes.fill_between([p[x] for p in mine], [p[y] for p in mine], color=colour, alpha=0.08)


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else f"{text[: most - 12]}...{text[-8:]}"


def _operating(axes: Any, x: float, y: float) -> None:
    axes.plot([x], [y], marker="D", markersize=8, color=WARM, linestyle="", label="at the bundle's threshold", zorder=4)


def _square(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axes.grid(linewidth=0.6)
