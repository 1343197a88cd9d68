"""The model card, made from the report alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "recall",
    "specificity",
    "precision",
    "f1",
    "roc_auc",
    "pr_auc",
    "brier",
    "ece",
)


def interval_text(figure: Mapping[str, Any]) -> str:
    """0.953 [0.912, 0.976]"""
    if not _is_defined(figure["value"]):
        return "undefined"
    return f"{figure['value']:.3f} [{figure['lower']:.3f}, {figure['upper']:.3f}]"


def spread_text(figure: Mapping[str, Any]) -> str:
    """0.953 ± 0.041"""
    mean, std = figure["mean"], figure["std"]
    if not _is_defined(mean):
        return "undefined"
    return f"{mean:.3f} ± {std:.3f}" if _is_defined(std) else f"{mean:.3f}"


def _is_defined(value: float | None) -> bool:
    """A report in memory says NaN where its file says null."""
    return value is not None and math.isfinite(value)


def limits(report: Mapping[str, Any]) -> list[str]:
    """What the report must not be taken for, as far as the files tell."""
    sentences = ["Measured on held-out cases of the same source; how it does elsewhere is unknown."]
    if not report["patients_known"]:
        sentences.append("The data do not say which cases are of one patient: no claim about new patients can be made.")
    if report["smoke"]:
        sentences.append("A smoke run on a fifth of the data, made to try the machinery; it can never be promoted.")
    if report["accepted_findings"]:
        sentences.append(f"Severe audit findings were accepted by name: {', '.join(report['accepted_findings'])}.")
    small = [name for name, figure in report["test"].items() if figure.get("note")]
    if small:
        sentences.append(f"Few cases stand behind {', '.join(small[:6])}: see the notes in report.json.")
    return sentences


def card(report: Mapping[str, Any]) -> str:
    """Markdown for people who decide whether to use the model."""
    positive = ", ".join(report["positive"]) or "none named"
    counts = ", ".join(f"{n} {name}" for name, n in report["test_counts"].items())
    origin = f"data version `{report['data_version'][:12]}`, edition `{report['edition']}`"
    abstained = report["abstained"]
    silent = (
        f"The service would give no class for {abstained['n']} of {report['n_test']} test cases "
        f"({abstained['share']:.1%}): too close to call, or far from anything seen in training."
    )
    lines = [
        f"# Model card: {report['name']}",
        "",
        f"- Model: `{report['model']['name']}` with `{report['model']['params']}`",
        f"- Classes: {', '.join(report['classes'])}; positive: {positive}",
        f"- Trained on {report['n_train']} cases of {report['n_features']} columns; tested on {counts}",
        f"- Threshold: {_threshold(report)}",
        f"- From {origin}; bundle `{report['bundle'][:12]}`",
        f"- Made {report['created']}",
        "",
        "## What it scored",
        "",
        "95% intervals in brackets; folds: mean ± standard deviation, decided at 0.5.",
        "",
        "| figure | locked test cases | n | folds |",
        "|---|---|---|---|",
    ]
    for name in SHOWN:
        test, folds = report["test"][name], report["cross_validation"][name]
        lines.append(f"| {name} | {interval_text(test)} | {test['n']} | {spread_text(folds)} |")
    lines += [
        "",
        silent,
        "",
        "## Limits",
        "",
        *[f"- {sentence}" for sentence in limits(report)],
        "",
    ]
    return "\n".join(lines)


def _threshold(report: Mapping[str, Any]) -> str:
    value = report["threshold"]["value"]
    return report["threshold"]["rule"] if value is None else f"{value:.4f}, by the rule `{report['threshold']['rule']}`"
