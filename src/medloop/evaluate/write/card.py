"""The model card, written from the report alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.statements import provenance, selection
from medloop.evaluate.statements import sentences as say
from medloop.evaluate.statements.limits import limits
from medloop.evaluate.write import class_view
from medloop.times import local_time
from medloop.wording import plural


def card(report: Mapping[str, Any]) -> str:
    """Return the card in Markdown."""
    counts = ", ".join(f"{n} {name}" for name, n in report["test_counts"].items())
    counts += " patients" if say.units(report) == "patients" else ""
    folded = f"{report['folds']} folds" if report["folds"] else "held-out cases"
    trained = f"{plural(report['n_train'], 'case')} with {plural(report['n_features'], 'value')} each"
    lines = [
        f"# Model card: {report['name']}",
        "",
        f"- Model: `{report['model']['name']}` with `{report['model']['params']}`",
        f"- Classes: {', '.join(report['classes'])}; positive: {', '.join(report['positive']) or 'none named'}",
        f"- Trained on {trained}; tested on {counts}",
        f"- {capitalized(selection.threshold_choice(report))}",
        f"- Data version `{report['data_version'][:12]}`, edition `{report['edition']}`",
        f"- Bundle `{report['bundle'][:12]}`",
        f"- Created {local_time(report['created'])}",
        "",
        "## Performance",
        "",
        f"{capitalized(say.accuracy(report))}.",
        "",
        *([f"{capitalized(say.predictive_values(report))}.", ""] if report["predictive"] else []),
        f"95% intervals in brackets; {_second_column(report)}.",
        "",
        f"| metric | locked test cases | n | {folded} |",
        "|---|---|---|---|",
    ]
    for name, test in report["test"].items():
        folds = report["cross_validation"].get(name)
        spread = say.spread_text(folds) if folds else ""
        lines.append(f"| {name} | {say.interval_text(test)} | {test['n']} | {spread} |")
    lines += ["", say.abstaining(report), "", *_baseline(report), *_by_class(report), *_subgroups(report)]
    lines += ["## Limitations", "", *[f"- {sentence}" for sentence in limits(report)], ""]
    lines += ["## Provenance", "", *_provenance(report), ""]
    return "\n".join(lines)


def capitalized(text: str) -> str:
    """Return the text with its first letter in upper case and the others unchanged."""
    return text[:1].upper() + text[1:]


def _second_column(report: Mapping[str, Any]) -> str:
    if not report["folds"]:
        return f"no folds were run; the last column is from {selection.held_out(report)}"
    return f"folds: mean ± standard deviation, decisions {provenance.fold_decision(report)}"


def _baseline(report: Mapping[str, Any]) -> list[str]:
    comparison = say.baseline_comparison(report)
    return [f"Baseline: {comparison}.", ""] if comparison else []


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


def _provenance(report: Mapping[str, Any]) -> list[str]:
    facts = (
        ("Data", say.sources(report)),
        ("Partitions", provenance.partition(report)),
        ("Preparation", provenance.preparation(report)),
        ("Training", provenance.training(report)),
        ("Tuning", selection.tuning(report)),
        ("Model selection", selection.chosen_epoch(report)),
        ("Calibration", selection.calibration(report)),
        ("Audit", say.audit(report)),
        ("Intervals", provenance.intervals(report)),
        ("Software", say.software(report)),
    )
    return [f"- {name}: {text}" for name, text in facts if text]
