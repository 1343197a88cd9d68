"""Both views of a model with several classes: positive or negative, and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.statements import sentences as say
from medloop.metrics.view import BY_CLASS, has_two_views

Report = Mapping[str, Any]
VIEWS = ("positive or negative", "class by class")
TERMINAL_METRICS = ("accuracy", "balanced_accuracy", "roc_auc")


def two_views(report: Report) -> bool:
    """Return whether the report has figures of the single classes besides the positive view."""
    return has_two_views(report["classes"], report["positive"])


def class_scores(report: Report) -> dict[str, float]:
    """Return the figures under the names of scores.json, the gate and MLflow: test_class_accuracy."""
    if not two_views(report):
        return {}
    return {f"test_{BY_CLASS}{name}": float(figure["value"]) for name, figure in report["over_classes"].items()}


def explanation(report: Report) -> str:
    """Return what counts as correct in each view."""
    names = report["classes"]
    rest = [name for name in names if name not in report["positive"]]
    return (
        f"Positive or negative: a decision is correct if it distinguishes {say.alternatives(report['positive'])} from "
        f"{say.alternatives(rest)}. Class by class: it is correct only if it is the right one of the {len(names)} "
        "classes; metrics of a single class are means over the classes."
    )


def figure_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of every metric in both views, for the page."""
    header = ("metric", *VIEWS, *(f"folds: {view}" for view in VIEWS))
    return header, [_row(report, name) for name in report["over_classes"]]


def summary_cards(report: Report) -> list[tuple[str, str]]:
    """Return the accuracy over the single classes, for the summary of the page."""
    if not two_views(report) or (figure := report["over_classes"]["accuracy"])["value"] is None:
        return []
    value, lower, upper = (100 * figure[name] for name in ("value", "lower", "upper"))
    meaning = f"of 100 cases are assigned to the right one of the {len(report['classes'])} classes"
    return [(f"{value:.0f} [{lower:.0f}, {upper:.0f}]", f"{meaning}; {figure['n']} tested")]


def card_lines(report: Report) -> list[str]:
    """Return the table of both views in Markdown."""
    if not two_views(report):
        return []
    rows = [f"| {' | '.join(_row(report, name)[:3])} |" for name in report["over_classes"]]
    header = [f"| metric | {' | '.join(VIEWS)} |", "|---|---|---|"]
    return ["## Positive or negative, and class by class", "", explanation(report), "", *header, *rows, ""]


def short(report: Report) -> str:
    """Return the main metrics of the single classes for the terminal."""
    if not two_views(report):
        return ""
    metrics = (f"{name} {report['over_classes'][name]['value']:.3f}" for name in TERMINAL_METRICS)
    return f"; over all {len(report['classes'])} classes: {', '.join(metrics)}"


def _row(report: Report, name: str) -> tuple[str, ...]:
    folds = (report["cross_validation"].get(key) for key in (name, f"{BY_CLASS}{name}"))
    return (
        name,
        say.interval_text(report["test"][name]),
        say.interval_text(report["over_classes"][name]),
        *(say.spread_text(figure) if figure else "" for figure in folds),
    )
