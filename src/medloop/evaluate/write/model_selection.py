"""MODEL_SELECTION.md and its plot: the compared models with their cross-validated metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medloop.metrics.view import BY_CLASS
from medloop.page.plot import ACCENT, INK, draw_png

Rows = Sequence[Mapping[str, Any]]


def selection_text(
    rows: Rows, *, name: str, cases: int, folds: int, repeats: int, data_version: str, chosen_on: str = ""
) -> str:
    """Return the text in Markdown; a row has `name`, `says`, `figures` (metric -> interval) and `seconds`."""
    best = rows[0]
    equal = [row["name"] for row in rows[1:] if _overlap(row["figures"]["roc_auc"], best["figures"]["roc_auc"])]
    method = (
        f"{repeats} x {folds}-fold cross-validation on {cases} training cases (data version `{data_version[:12]}`), "
        "with the same folds for every model and without test cases. Means with 95% intervals that account for the "
        "overlap of the training folds (Nadeau and Bengio, 2003). The most probable class is predicted."
    )
    lines = [
        f"# Model selection: {name}",
        "",
        method,
        *([chosen_on] if chosen_on else []),
        "",
        *_tables(rows),
        f"`{best['name']}` has the highest mean AUC. "
        + (
            f"Its interval overlaps with that of {', '.join(equal)}: "
            if equal
            else "Its interval does not overlap with any other. "
        )
        + ("prefer the simplest of them, or the best calibrated. " if equal else "")
        + "The metrics of the best of several models are optimistic: expect slightly lower values on new cases.",
        "",
        "![AUC of the models](MODEL_SELECTION.png)",
        "",
        "| model | description |",
        "|---|---|",
        *[f"| {row['name']} | {row['says']} |" for row in rows],
        "",
    ]
    return "\n".join(lines)


def class_text(row: Mapping[str, Any], *, classes: int) -> str:
    """Return how often a model predicts the right class, where the metrics only count positive or negative."""
    accuracy = row["figures"].get(f"{BY_CLASS}accuracy")
    if not accuracy:
        return ""
    return f" and predicts the right one of the {classes} classes for {format_interval(accuracy)} of the cases"


def _tables(rows: Rows) -> list[str]:
    """Return the table of positive or negative, and that of the single classes where there are more than two."""
    names = list(rows[0]["figures"])
    by_class = [name for name in names if name.startswith(BY_CLASS)]
    lines = _table(rows, [name for name in names if name not in by_class])
    if not by_class:
        return lines
    return [
        "Positive or negative:",
        "",
        *lines,
        "Class by class (metrics of a single class are means over the classes):",
        "",
        *_table(rows, by_class),
    ]


def _table(rows: Rows, names: Sequence[str]) -> list[str]:
    lines = [f"| model | {' | '.join(names)} | seconds per run |", f"|---|{'---|' * (len(names) + 1)}"]
    for row in rows:
        metrics = " | ".join(format_interval(row["figures"][name]) for name in names)
        lines.append(f"| {row['name']} | {metrics} | {row['seconds']:.1f} |")
    return [*lines, ""]


def format_interval(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f} [{figure['lower']:.3f}, {figure['upper']:.3f}]"


def _overlap(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return bool(first["upper"] >= second["lower"] and second["upper"] >= first["lower"])


def selection_plot(rows: Rows) -> bytes:
    """Draw the AUC of every model with its interval and single folds."""

    def draw(axes: Any) -> None:
        for place, row in enumerate(reversed(rows)):
            figure = row["figures"]["roc_auc"]
            folds = row["folds"]["roc_auc"]
            axes.scatter(folds, [place - 0.18] * len(folds), s=9, color=ACCENT, alpha=0.25, linewidths=0)
            axes.plot([figure["lower"], figure["upper"]], [place, place], color=INK, linewidth=1.6)
            axes.scatter([figure["value"]], [place], s=34, color=ACCENT, zorder=3)
        axes.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)])
        axes.set_xlabel("AUC: mean, 95% interval and single folds")
        axes.grid(axis="x", linewidth=0.4)

    return draw_png(draw, size=(7.0, 0.55 * len(rows) + 1.1))
