"""Sentences about a report, shared by the model card, the page and the checklists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any

from medloop.wording import plural

Report = Mapping[str, Any]
Figure = Mapping[str, Any]


def interval_text(figure: Figure, *, share: bool = False) -> str:
    """Return 0.953 [0.912, 0.976], or as percentages 95.3% [91.2%, 97.6%]."""
    if figure["value"] is None:
        return "undefined"
    value, lower, upper = (_format_number(figure[name], share=share) for name in ("value", "lower", "upper"))
    return f"{value} [{lower}, {upper}]" if figure["lower"] is not None else f"{value} (no interval)"


def _format_number(value: float | None, *, share: bool) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if share else f"{value:.3f}"


def spread_text(figure: Figure) -> str:
    """Return mean and standard deviation: 0.953 ± 0.041."""
    mean, std = figure["mean"], figure["std"]
    if mean is None:
        return "undefined"
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def counted(counts: Mapping[str, int]) -> str:
    """Return the counts with their names: 40 benign, 20 malignant."""
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def listed(names: Iterable[str]) -> str:
    """Return the names as: a, b and c."""
    known = list(names)
    return " and ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)


def joined(*sentences: str) -> str:
    """Return the sentences that are not empty, separated by semicolons."""
    return "; ".join(sentence for sentence in sentences if sentence)


def alternatives(names: Iterable[str]) -> str:
    """Return the names as: a, b or c."""
    known = list(names)
    return " or ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)


def kind_of_data(report: Report) -> str:
    """Return the kind of data: images, or rows of a table."""
    return "images" if report["task"] == "images" else "rows of a table"


def model(report: Report) -> str:
    """Return the name of the model with its hyperparameters."""
    values = ", ".join(f"{name} {value}" for name, value in report["model"]["params"].items())
    return f"{report['model']['name']} ({values})" if values else str(report["model"]["name"])


def target(report: Report) -> str:
    """Return the classes, and which of them are positive."""
    positive = f" (positive: {listed(report['positive'])})" if report["positive"] else ""
    return f"{listed(report['classes'])}{positive}"


def sources(report: Report) -> str:
    """Return the sources of the cases."""
    study = report.get("study")
    if not study:
        return ""
    return f"{cases_by_source(study)}; data version {report['data_version'][:12]}"


def cases_by_source(study: Mapping[str, Any]) -> str:
    """Return the number of cases of each source: 40 cases from csv and 20 cases from folder."""
    return listed(f"{plural(n, 'case')} from {name}" for name, n in study["sources"].items())


def labels_by_part(report: Report) -> str:
    """Return the classes of each part: train: 40 benign, 20 malignant; test: ..."""
    study = report.get("study")
    return "; ".join(f"{name}: {counted(part['labels'])}" for name, part in study["parts"].items()) if study else ""


def flow(report: Report) -> str:
    """Return the flow of cases: those excluded and those of each part."""
    return f"{excluded(report)}; {labels_by_part(report)}" if excluded(report) else ""


def excluded(report: Report) -> str:
    """Return how many cases were excluded, and why."""
    study = report.get("study")
    if not study:
        return ""
    reasons = [*study["set_aside"].items(), *study["left_out"].items()]
    exclusions = ", ".join(f"{n} ({why})" for why, n in reasons) or "none"
    return f"{study['cases']} cases were read; excluded: {exclusions}"


def missing(report: Report) -> str:
    """Return how missing values are handled."""
    study = report.get("study")
    if not study:
        return ""
    if study["images"]:
        return "incomplete images are refused; nothing is imputed. " + excluded(report)
    empty = ", ".join(f"{name} {share:.1%}" for name, share in study["missing"].items())
    handling = "numbers are imputed with the median of the training cases; a missing category is its own category"
    return f"missing values: {empty or 'none'}; {handling}"


def audit(report: Report) -> str:
    """Return the findings of the audit before training."""
    study = report.get("study")
    if not study:
        return ""
    found = "; ".join(f"{one['name']} ({one['severity']})" for one in study["findings"]) or "none"
    accepted = listed(report["accepted_findings"]) or "none"
    return f"findings of the audit before training: {found}; severe findings accepted by name: {accepted}"


def unchecked_copies(report: Report) -> str:
    """Return the kinds of altered duplicates that the audit did not search for; empty if not recorded."""
    names = (report.get("study") or {}).get("unchecked")
    return f"the audit did not search for {listed(names)}" if names else ""


def performance(report: Report, names: Iterable[str] = ("roc_auc", "recall", "specificity", "brier")) -> str:
    """Return the main metrics with their intervals."""
    metrics = [f"{name} {interval_text(report['test'][name])}" for name in names if report["test"].get(name)]
    cases = f"{report['n_test']} locked test {units(report)} ({counted(report['test_counts'])})"
    return joined(accuracy(report), predictive_values(report), *metrics, cases)


def full_performance(report: Report) -> str:
    """Return the main metrics, also by class and subgroup, and the comparison with a baseline."""
    return joined(performance(report), by_class(report), subgroups(report), baseline_comparison(report))


def accuracy(report: Report) -> str:
    """Return the accuracy, with that of always deciding for the most frequent class."""
    found = _accuracy(report["test"]["accuracy"], report["majority"])
    if not (of_classes := report["majority"]["of_classes"]):
        return found
    return f"{found}; class by class: {_accuracy(report['over_classes']['accuracy'], of_classes)}"


def _accuracy(figure: Figure, majority: Figure) -> str:
    always = f"always deciding {majority['class']}: {majority['accuracy']['value']:.3f}"
    return f"accuracy {interval_text(figure)} ({always})"


def headline(report: Report) -> str:
    """Return the main metrics for the terminal, without intervals."""
    test, plain, found = report["test"], report["majority"], report["predictive"]
    metrics = [f"accuracy {_short(test['accuracy'])} (always {plain['class']}: {_short(plain['accuracy'])})"]
    if found:
        values = f"PPV {_short(found['ppv'])} and NPV {_short(found['npv'])}"
        metrics.append(f"{values} at a prevalence of {found['prevalence']:.1%}")
    return ", ".join([*metrics, *(f"{name} {_short(test[name])}" for name in ("recall", "roc_auc"))])


def _short(figure: Figure) -> str:
    value = figure["value"]
    return "undefined" if value is None or isnan(value) else f"{value:.3f}"


def predictive_values(report: Report) -> str:
    """Return PPV and NPV at the prevalence of the test set, and at that of the recipe."""
    found = [(report["predictive"], "test set"), (report.get("at_prevalence"), "evaluate.prevalence")]
    return "; ".join(
        f"at a prevalence of {one['prevalence']:.1%} ({origin}): PPV {interval_text(one['ppv'])}, "
        f"NPV {interval_text(one['npv'])}"
        for one, origin in found
        if one
    )


def by_class(report: Report) -> str:
    """Return the AUC of each class against the rest."""
    areas = [f"{name} {interval_text(found['roc_auc'])}" for name, found in report.get("by_class", {}).items()]
    return f"AUC by class: {'; '.join(areas)}" if areas else ""


def subgroups(report: Report) -> str:
    """Return the AUC in each subgroup."""
    return "; ".join(
        f"{column} {band} (n {found['n']}): AUC {interval_text(found['figures']['roc_auc'])}"
        for column, bands in report.get("subgroups", {}).items()
        for band, found in bands.items()
    )


def subgroups_by_part(report: Report) -> str:
    """Return the number of cases of each class and subgroup in each part."""
    parts = (report.get("study") or {}).get("parts", {})
    counts = [
        f"{part}, {column}: {counted(bands)}"
        for part, found in parts.items()
        for column, bands in found["subgroups"].items()
    ]
    return "; ".join([labels_by_part(report), *counts]) if parts else ""


def miscalibration(report: Report) -> tuple[str, str] | None:
    """Return the kind of miscalibration and the figure that shows it; an empty kind if none is detected.

    None if calibration cannot be assessed. A perfect separation of the classes has no calibration slope.
    """
    slope, shift = report["test"]["calibration_slope"], report["test"]["calibration_intercept"]
    is_slope_known, is_shift_known = (None not in (one["lower"], one["upper"]) for one in (slope, shift))
    slope_text = f"calibration slope {interval_text(slope)}"
    shift_text = f"calibration intercept {interval_text(shift)}"
    if is_slope_known and slope["upper"] < 0:
        return "probabilities inversely related to the outcome", slope_text
    if is_shift_known and shift["lower"] > 0:
        return "risk underestimated", shift_text
    if is_shift_known and shift["upper"] < 0:
        return "risk overestimated", shift_text
    if not (is_slope_known and is_shift_known):
        return None
    if slope["upper"] < 1:
        return "over-confident", slope_text
    return ("under-confident", slope_text) if slope["lower"] > 1 else ("", slope_text)


def abstaining(report: Report) -> str:
    """Return how often the service would abstain."""
    found = report["abstained"]
    reasons = f"; reasons: {counted(found['reasons'])}" if found.get("reasons") else ""
    cases = f"{found['n']} of {report['n_test']} test {units(report)} ({found['share']:.1%})"
    included = " Metrics of decisions include them, with the class that would have been chosen." if found["n"] else ""
    return f"The service would abstain on {cases}{reasons}.{included}"


def software(report: Report) -> str:
    """Return the versions of Python and the libraries."""
    environment = report["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return f"Python {environment['python']}; {packages}"


def formula(report: Report) -> str:
    """Return what is needed to reproduce a prediction."""
    return (
        f"bundle {report['bundle'][:12]}: model.onnx with bundle.json (classes, preparation, temperature, threshold), "
        "usable with any ONNX runtime, without medloop; its outputs differ from the trained model's by at most "
        f"{report['parity']:.1g}"
    )


def units(report: Report) -> str:
    """Return the unit of analysis of the test: patients or cases."""
    return "patients" if (report.get("decide") or {}).get("per") == "patient" else "cases"


def as_two_sides(report: Report) -> str:
    """Return a qualifier for counts of correct decisions, where several classes are grouped into two."""
    two = len(report["classes"]) > 2 and len(report["confusion"]["counts"]) == 2
    return " as positive or negative" if two else ""


def wrong(report: Report) -> str:
    """Return the number of misclassified cases."""
    worst = report.get("most_wrong")
    if worst is None:
        return ""
    counts = report["confusion"]["counts"]
    errors = sum(n for r, row in enumerate(counts) for c, n in enumerate(row) if r != c)
    shown = f"report.html shows the {len(worst)} worst errors" if worst else ""
    return joined(f"{errors} of {report['n_test']} test {units(report)} misclassified{as_two_sides(report)}", shown)


def baseline_comparison(report: Report) -> str:
    """Return the AUC of the baseline model and the gain over it."""
    other = report.get("beside")
    if not other:
        return ""
    gain = {**other["gain"]["roc_auc"], "value": other["gain"]["roc_auc"]["difference"]}
    area = interval_text(other["figures"]["roc_auc"])
    return f"{other['name']} on the same cases: AUC {area}; AUC of the model minus this: {interval_text(gain)}"
