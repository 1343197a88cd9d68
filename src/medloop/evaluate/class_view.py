"""The two views of a model that tells more apart than positive from negative: both beside each other, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop import page
from medloop.evaluate import sentences as say
from medloop.metrics.view import BY_CLASS, has_two_views

Report = Mapping[str, Any]
VIEWS = ("positive or negative", "class by class")
SHORT = ("accuracy", "balanced_accuracy", "roc_auc")
LISTED = ("accuracy", "balanced_accuracy", "recall", "precision", "f1", "roc_auc", "brier", "ece")


def two_views(report: Report) -> bool:
    """Whether the report has a view of its own of the single classes."""
    return has_two_views(report["classes"], report["positive"])


def class_scores(report: Report) -> dict[str, float]:
    """`test_class_accuracy` and so on, as scores.json, the gate and MLflow name them."""
    if not two_views(report):
        return {}
    return {f"test_{BY_CLASS}{name}": float(figure["value"]) for name, figure in report["over_classes"].items()}


def explanation(report: Report) -> str:
    """What each view counts."""
    names = report["classes"]
    rest = [name for name in names if name not in report["positive"]]
    return (
        f"Positive or negative: a decision is correct if it tells {say.alternatives(report['positive'])} from "
        f"{say.alternatives(rest)}. Class by class: it is correct only if it names the right one of the {len(names)} "
        "classes; figures that belong to one class are means over the classes."
    )


def page_parts(report: Report) -> list[str]:
    """Every figure in both views, for the page."""
    if not two_views(report):
        return []
    header = ("figure", *VIEWS, *(f"folds: {view}" for view in VIEWS))
    return [
        page.paragraph(explanation(report)),
        page.table(header, [_row(report, name) for name in report["over_classes"]]),
    ]


def summary_cards(report: Report) -> list[tuple[str, str]]:
    """The share of cases whose very class was decided, to stand among the figures that matter most."""
    if not two_views(report) or (figure := report["over_classes"]["accuracy"])["value"] is None:
        return []
    value, lower, upper = (100 * figure[name] for name in ("value", "lower", "upper"))
    words = f"of 100 cases are given exactly the right one of the {len(report['classes'])} classes"
    return [(f"{value:.0f} [{lower:.0f}, {upper:.0f}]", f"{words}; {figure['n']} tested")]


def card_lines(report: Report) -> list[str]:
    """Both views in Markdown."""
    if not two_views(report):
        return []
    rows = [f"| {' | '.join(_row(report, name)[:3])} |" for name in LISTED]
    header = [f"| figure | {' | '.join(VIEWS)} |", "|---|---|---|"]
    return ["## Positive or negative, and class by class", "", explanation(report), "", *header, *rows, ""]


def short(report: Report) -> str:
    """What the terminal says of the single classes, after the figures of the positive view."""
    if not two_views(report):
        return ""
    told = (f"{name} {report['over_classes'][name]['value']:.3f}" for name in SHORT)
    return f"; over all {len(report['classes'])} classes: {', '.join(told)}"


def _row(report: Report, name: str) -> tuple[str, ...]:
    folds = (report["cross_validation"].get(key) for key in (name, f"{BY_CLASS}{name}"))
    return (
        name,
        say.interval_text(report["test"][name]),
        say.interval_text(report["over_classes"][name]),
        *(say.spread_text(figure) if figure else "" for figure in folds),
    )
