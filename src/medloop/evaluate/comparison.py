"""MODEL_SELECTION.md and its plot: which model, by how much, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medloop.evaluate.plots import ACCENT, INK, picture
from medloop.metrics.view import BY_CLASS

Rows = Sequence[Mapping[str, Any]]


def selection_text(
    rows: Rows, *, name: str, cases: int, folds: int, repeats: int, data_version: str, chosen_on: str = ""
) -> str:
    """Markdown; a row has `name`, `says`, `figures` (metric -> interval) and `seconds`."""
    best = rows[0]
    equal = [row["name"] for row in rows[1:] if _overlap(row["figures"]["roc_auc"], best["figures"]["roc_auc"])]
    how = (
        f"{repeats} x {folds}-fold cross-validation on {cases} training cases (data version `{data_version[:12]}`); "
        "the same folds for every model, and no test case among them. Means with 95% intervals that allow for the "
        "overlap of training folds (Nadeau and Bengio, 2003). Decisions for the likeliest class."
    )
    lines = [
        f"# Model selection: {name}",
        "",
        how,
        *([chosen_on] if chosen_on else []),
        "",
        *_tables(rows),
        f"`{best['name']}` has the highest mean AUC. "
        + (
            f"Its interval overlaps with that of {', '.join(equal)}: "
            if equal
            else "No other interval overlaps with its own. "
        )
        + ("prefer the simplest of them, or the one that is calibrated best. " if equal else "")
        + "The figures of whatever is best of several flatter it: on new cases expect a little less.",
        "",
        "![AUC of the models](MODEL_SELECTION.png)",
        "",
        "| model | what it is |",
        "|---|---|",
        *[f"| {row['name']} | {row['says']} |" for row in rows],
        "",
    ]
    return "\n".join(lines)


def class_text(row: Mapping[str, Any], *, classes: int) -> str:
    """How often a model names the very class, where positive or negative leaves that out."""
    accuracy = row["figures"].get(f"{BY_CLASS}accuracy")
    return f" and names the right one of the {classes} classes for {_text(accuracy)} of the cases" if accuracy else ""


def _tables(rows: Rows) -> list[str]:
    """Positive or negative; and class by class where that is another question."""
    names = list(rows[0]["figures"])
    by_class = [name for name in names if name.startswith(BY_CLASS)]
    lines = _table(rows, [name for name in names if name not in by_class])
    if not by_class:
        return lines
    return [
        "Positive or negative, whichever class it is:",
        "",
        *lines,
        "Class by class: only the right class is correct; figures that belong to one class are means over the classes:",
        "",
        *_table(rows, by_class),
    ]


def _table(rows: Rows, names: Sequence[str]) -> list[str]:
    return [
        f"| model | {' | '.join(names)} | s per run |",
        f"|---|{'---|' * (len(names) + 1)}",
        *[
            f"| {row['name']} | {' | '.join(_text(row['figures'][name]) for name in names)} | {row['seconds']:.1f} |"
            for row in rows
        ],
        "",
    ]


def _text(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f} [{figure['lower']:.3f}, {figure['upper']:.3f}]"


def _overlap(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return bool(first["upper"] >= second["lower"] and second["upper"] >= first["lower"])


def selection_plot(rows: Rows) -> bytes:
    """The AUC of every model with its interval and its single folds."""

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

    return picture(draw, size=(7.0, 0.55 * len(rows) + 1.1))
