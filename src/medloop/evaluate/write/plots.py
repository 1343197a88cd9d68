"""Plots of the test results: confusion matrix, ROC and precision-recall curves, calibration."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medloop.evaluate.figures.scores import Measured
from medloop.metrics.counts import confusion
from medloop.metrics.curves import precision_recall_points, roc_points
from medloop.metrics.intervals.proportions import wilson_clustered
from medloop.page.plot import COLOURS, INK, SOFT, WARM, draw_png, shorten

BINS = 10

Points = list[dict[str, Any]]


def confusion_matrix(names: Sequence[str], counts: Any) -> bytes:
    """Draw the confusion matrix: true classes in rows, predicted classes in columns."""
    shares = np.asarray(counts) / np.maximum(np.sum(counts, axis=1, keepdims=True), 1)
    size = len(names)

    def draw(axes: Any) -> None:
        axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1.4)
        for (row, column), count in np.ndenumerate(np.asarray(counts)):
            weight = "bold" if row == column else "normal"
            text = f"{count}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", weight=weight)
        labels = [wrap(name) for name in names]
        axes.set_xticks(range(size), labels, rotation=0 if size < 4 else 30)
        axes.set_yticks(range(size), labels, rotation=90 if size < 4 else 0, va="center")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    side = 4.4 + 0.55 * max(0, size - 2)
    return draw_png(draw, size=(side + 0.4, side))


def wrap(name: str, width: int = 18) -> str:
    """Return a long class name on several lines."""
    return "\n".join(textwrap.wrap(name, width, break_long_words=False, break_on_hyphens=False))


def matrix(measured: Measured) -> Any:
    """Return how often each class was predicted as each."""
    return confusion(measured.truth, measured.chosen, len(measured.names))


def curves(measured: Measured) -> dict[str, Points]:
    """Return the points of the ROC, precision-recall and reliability curves of each class."""
    points: dict[str, Points] = {"roc": [], "precision_recall": [], "reliability": []}
    for number in _plotted_classes(measured):
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


def _plotted_classes(measured: Measured) -> range:
    """Return the positive one of two classes, or all of more classes."""
    return range(1, 2) if len(measured.names) == 2 else range(len(measured.names))


def _reliability(name: str, truth: Any, share: Any, groups: Any) -> Points:
    """Return bins of equal width, each with the observed frequency and its interval."""
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
    """Draw the ROC curve with the operating point of the bundle."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2, label="chance")
        _draw_curves(axes, points, "fpr", "tpr", labels=_curve_labels(report, points, "roc_auc"), filled=True)
        metrics = report["test"]
        if len(report["test_counts"]) == 2 and None not in (
            metrics["recall"]["value"],
            metrics["specificity"]["value"],
        ):
            _mark_operating_point(axes, 1 - metrics["specificity"]["value"], metrics["recall"]["value"])
        _unit_square(axes, "false-positive rate (1 - specificity)", "sensitivity")
        axes.legend(frameon=False, loc="lower right", fontsize=9)

    return draw_png(draw)


def precision_recall(points: Points, report: Mapping[str, Any]) -> bytes:
    """Draw the precision-recall curve with the operating point of the bundle."""

    def draw(axes: Any) -> None:
        counts = report["test_counts"]
        if len(counts) == 2:
            share = list(counts.values())[1] / max(sum(counts.values()), 1)
            axes.axhline(share, color=SOFT, linestyle=":", linewidth=1.2, label=f"chance (prevalence {share:.0%})")
        _draw_curves(axes, points, "recall", "precision", labels=_curve_labels(report, points, "pr_auc"), filled=False)
        metrics = report["test"]
        if len(counts) == 2 and None not in (metrics["recall"]["value"], metrics["precision"]["value"]):
            _mark_operating_point(axes, metrics["recall"]["value"], metrics["precision"]["value"])
        _unit_square(axes, "sensitivity (recall)", "precision (positive predictive value)")
        axes.legend(frameon=False, loc="lower left", fontsize=9)

    return draw_png(draw)


def reliability(points: Points) -> bytes:
    """Draw the observed frequency against the predicted probability, with intervals and the cases in each bin."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2, label="perfect calibration")
        for number, name in enumerate(dict.fromkeys(point["class"] for point in points)):
            mine = [point for point in points if point["class"] == name]
            x, y = [p["predicted"] for p in mine], [p["observed"] for p in mine]
            errors = [[p["observed"] - p["lower"] for p in mine], [p["upper"] - p["observed"] for p in mine]]
            colour = COLOURS[number % len(COLOURS)]
            axes.errorbar(
                x, y, np.abs(errors), color=colour, marker="o", markersize=4, linewidth=1.4, label=shorten(name)
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
        _unit_square(axes, "predicted probability", "observed frequency")
        axes.legend(frameon=False, loc="lower right", fontsize=9)

    return draw_png(draw)


def _curve_labels(report: Mapping[str, Any], points: Points, metric: str) -> dict[str, str]:
    """Return the label of each curve with the area below it."""
    names = list(dict.fromkeys(point["class"] for point in points))
    if len(report["test_counts"]) == 2:
        value = report["test"][metric]["value"]
        return dict.fromkeys(names, "model" if value is None else f"model (area {value:.3f})")
    metrics = {name: report["by_class"].get(name, {}).get(metric) for name in names}
    return {
        name: name if not one or one["value"] is None else f"{name} (area {one['value']:.3f})"
        for name, one in metrics.items()
    }


def _draw_curves(axes: Any, points: Points, x: str, y: str, *, labels: Mapping[str, str], filled: bool) -> None:
    for number, name in enumerate(labels):
        mine = [point for point in points if point["class"] == name]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot([p[x] for p in mine], [p[y] for p in mine], color=colour, linewidth=1.8, label=shorten(labels[name]))
        if filled and len(labels) == 1:
            axes.fill_between([p[x] for p in mine], [p[y] for p in mine], color=colour, alpha=0.08)


def _mark_operating_point(axes: Any, x: float, y: float) -> None:
    axes.plot([x], [y], marker="D", markersize=8, color=WARM, linestyle="", label="operating point", zorder=4)


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axes.grid(linewidth=0.6)
