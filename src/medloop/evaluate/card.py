"""The model card, made from the report alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate import class_view, provenance, selection
from medloop.evaluate import sentences as say
from medloop.evaluate.limits import limits
from medloop.times import local_time

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
    "calibration_slope",
)


def card(report: Mapping[str, Any]) -> str:
    """Markdown for people who decide whether to use the model."""
    counts = ", ".join(f"{n} {name}" for name, n in report["test_counts"].items())
    counts += " patients" if say.units(report) == "patients" else ""
    folded = f"{report['folds']} folds" if report["folds"] else "held-out cases"
    lines = [
        f"# Model card: {report['name']}",
        "",
        f"- Model: `{report['model']['name']}` with `{report['model']['params']}`",
        f"- Classes: {', '.join(report['classes'])}; positive: {', '.join(report['positive']) or 'none named'}",
        f"- Trained on {report['n_train']} cases of {report['n_features']} values; tested on {counts}",
        f"- {capitalized(selection.threshold_choice(report))}",
        f"- From data version `{report['data_version'][:12]}`, edition `{report['edition']}`",
        f"- Bundle `{report['bundle'][:12]}`",
        f"- Made {local_time(report['created'])}",
        "",
        "## What it scored",
        "",
        f"{capitalized(say.baseline(report))}.",
        "",
        *([f"{capitalized(say.predictive_values(report))}.", ""] if report["predictive"] else []),
        f"95% intervals in brackets; {_folds(report)}.",
        "",
        f"| figure | locked test cases | n | {folded} |",
        "|---|---|---|---|",
    ]
    for name in SHOWN:
        test, folds = report["test"][name], report["cross_validation"].get(name)
        spread = say.spread_text(folds) if folds else ""
        lines.append(f"| {name} | {say.interval_text(test)} | {test['n']} | {spread} |")
    lines += ["", say.abstaining(report), "", *_beside(report), *_by_class(report), *_subgroups(report)]
    lines += ["## Limits", "", *[f"- {sentence}" for sentence in limits(report)], ""]
    lines += ["## How it was made", "", *_made(report), ""]
    return "\n".join(lines)


def capitalized(text: str) -> str:
    """The text with its first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def _folds(report: Mapping[str, Any]) -> str:
    if not report["folds"]:
        return f"no folds were run: beside the test stand the {selection.held_out(report)}"
    return f"folds: mean ± standard deviation, decided {provenance.fold_decision(report)}"


def _beside(report: Mapping[str, Any]) -> list[str]:
    beside = say.beside(report)
    return [f"Baseline: {beside}.", ""] if beside else []


def _by_class(report: Mapping[str, Any]) -> list[str]:
    if not report.get("by_class"):
        return []
    rows = [
        f"| {name} | {found['recall']['n']} | {say.interval_text(found['roc_auc'])} | "
        f"{say.interval_text(found['recall'])} | {say.interval_text(found['specificity'])} | "
        f"{say.interval_text(found['precision'])} |"
        for name, found in report["by_class"].items()
    ]
    return [
        *class_view.card_lines(report),
        "## Class by class",
        "",
        "| class | cases | AUC | sensitivity | specificity | precision |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _subgroups(report: Mapping[str, Any]) -> list[str]:
    if not report.get("subgroups"):
        return []
    rows = [
        f"| {column} {band} | {found['n']} | {say.interval_text(found['figures']['roc_auc'])} | "
        f"{say.interval_text(found['figures']['accuracy'])} |"
        for column, bands in report["subgroups"].items()
        for band, found in bands.items()
    ]
    return ["## Subgroups", "", "| subgroup | n | AUC | accuracy |", "|---|---|---|---|", *rows, ""]


def _made(report: Mapping[str, Any]) -> list[str]:
    told = (
        ("Data", say.sources(report)),
        ("Parts", provenance.partition(report)),
        ("Preparation", provenance.preparation(report)),
        ("Training", provenance.training(report)),
        ("Tuning", selection.tuning(report)),
        ("Choice of the model", selection.chosen_epoch(report)),
        ("Calibration", selection.calibration(report)),
        ("Audit", say.audit(report)),
        ("Intervals", provenance.intervals(report)),
        ("Software", say.software(report)),
    )
    return [f"- {name}: {text}" for name, text in told if text]
