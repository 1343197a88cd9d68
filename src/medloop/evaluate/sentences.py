"""What the files tell, in sentences: the card, the page and the reporting tables say the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any

Report = Mapping[str, Any]
Figure = Mapping[str, Any]


def interval_text(figure: Figure, *, share: bool = False) -> str:
    """0.953 [0.912, 0.976], or 95.3% [91.2%, 97.6%]"""
    if figure["value"] is None:
        return "undefined"
    value, lower, upper = (_number(figure[name], share=share) for name in ("value", "lower", "upper"))
    return f"{value} [{lower}, {upper}]" if figure["lower"] is not None else f"{value} (no interval)"


def _number(value: float | None, *, share: bool) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if share else f"{value:.3f}"


def spread_text(figure: Figure) -> str:
    """0.953 ± 0.041"""
    mean, std = figure["mean"], figure["std"]
    if mean is None:
        return "undefined"
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def counted(counts: Mapping[str, int]) -> str:
    """40 benign, 20 malignant"""
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def listed(names: Iterable[str]) -> str:
    """a, b and c"""
    known = list(names)
    return " and ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)


def joined(*sentences: str) -> str:
    """Those that say something, in a row."""
    return "; ".join(sentence for sentence in sentences if sentence)


def alternatives(names: Iterable[str]) -> str:
    """a, b or c"""
    known = list(names)
    return " or ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)


def kind_of_data(report: Report) -> str:
    """images, or rows of a table"""
    return "images" if report["task"] == "images" else "rows of a table"


def model(report: Report) -> str:
    """The model and its values."""
    values = ", ".join(f"{name} {value}" for name, value in report["model"]["params"].items())
    return f"{report['model']['name']} ({values})" if values else str(report["model"]["name"])


def target(report: Report) -> str:
    """What is told apart."""
    positive = f"; positive: {listed(report['positive'])}" if report["positive"] else ""
    return f"{listed(report['classes'])}{positive}"


def sources(report: Report) -> str:
    """Where the cases came from."""
    study = report.get("study")
    if not study:
        return ""
    return f"{counted(study['sources'])} (cases by source; data version {report['data_version'][:12]})"


def labels_by_part(report: Report) -> str:
    """train: 40 benign, 20 malignant; test: ..."""
    study = report.get("study")
    return "; ".join(f"{name}: {counted(part['labels'])}" for name, part in study["parts"].items()) if study else ""


def flow(report: Report) -> str:
    """Which cases went where; nothing where the files do not tell."""
    return f"{excluded(report)}; {labels_by_part(report)}" if excluded(report) else ""


def excluded(report: Report) -> str:
    """What was set aside, and why."""
    study = report.get("study")
    if not study:
        return ""
    aside = [*study["set_aside"].items(), *study["left_out"].items()]
    told = "; ".join(f"{n}: {why}" for why, n in aside) or "none"
    return f"{study['cases']} cases were read; set aside or left out: {told}"


def missing(report: Report) -> str:
    """Which cells were empty, and what is done with them."""
    study = report.get("study")
    if not study:
        return ""
    if study["images"]:
        return "an image is whole or refused; none is filled in. " + excluded(report)
    empty = ", ".join(f"{name} {share:.1%}" for name, share in study["missing"].items())
    fill = "the bundle's pipeline fills numbers with the median of the training cases; an empty category is its own"
    return f"empty cells: {empty or 'none'}; {fill}"


def audit(report: Report) -> str:
    """What was examined before training."""
    study = report.get("study")
    if not study:
        return ""
    found = "; ".join(f"{one['name']} ({one['severity']})" for one in study["findings"]) or "nothing"
    accepted = listed(report["accepted_findings"]) or "none"
    return f"audit before training found: {found}; severe findings accepted by name: {accepted}"


def unchecked_copies(report: Report) -> str:
    """Which changed copies of a case the audit did not look for; empty where it recorded nothing of that."""
    names = (report.get("study") or {}).get("unchecked")
    return f"not looked for by the audit: {listed(names)}" if names else ""


def performance(report: Report, names: Iterable[str] = ("roc_auc", "recall", "specificity", "brier")) -> str:
    """The main figures."""
    told = [f"{name} {interval_text(report['test'][name])}" for name in names if report["test"].get(name)]
    cases = f"{report['n_test']} locked test {units(report)} ({counted(report['test_counts'])})"
    return joined(baseline(report), predictive_values(report), *told, cases)


def baseline(report: Report) -> str:
    """The accuracy beside that of always deciding for the most frequent class."""
    plain = report["majority"]
    told = f"accuracy {interval_text(report['test']['accuracy'])}, where always deciding {plain['class']} has "
    told += f"{plain['accuracy']['value']:.3f}"
    if not (classes := plain["of_classes"]):
        return told
    accuracy, always = interval_text(report["over_classes"]["accuracy"]), f"always deciding {classes['class']}"
    return f"{told}; class by class accuracy {accuracy}, where {always} has {classes['accuracy']['value']:.3f}"


def headline(report: Report) -> str:
    """The figures for the terminal, in three digits without intervals."""
    test, plain, found = report["test"], report["majority"], report["predictive"]
    told = [f"accuracy {_short(test['accuracy'])} (always {plain['class']}: {_short(plain['accuracy'])})"]
    if found:
        values = f"PPV {_short(found['ppv'])} and NPV {_short(found['npv'])}"
        told.append(f"{values} with {found['prevalence']:.1%} positive")
    return ", ".join([*told, *(f"{name} {_short(test[name])}" for name in ("recall", "roc_auc"))])


def _short(figure: Figure) -> str:
    value = figure["value"]
    return "undefined" if value is None or isnan(value) else f"{value:.3f}"


def predictive_values(report: Report) -> str:
    """How often a decision is right: at the share of positive cases in the test set, and where the recipe names one."""
    found = [(report["predictive"], ", as in the test set"), (report.get("at_prevalence"), " (evaluate.prevalence)")]
    told = [
        f"where {one['prevalence']:.1%} are positive{where}: PPV {interval_text(one['ppv'])}, "
        f"NPV {interval_text(one['npv'])}"
        for one, where in found
        if one
    ]
    return "; ".join(told)


def by_class(report: Report) -> str:
    """The area of each class against the rest."""
    told = [f"{name} {interval_text(found['roc_auc'])}" for name, found in report.get("by_class", {}).items()]
    return f"AUC by class: {'; '.join(told)}" if told else ""


def subgroups(report: Report) -> str:
    """The area in each band of each column."""
    told = [
        f"{column} {band} (n {found['n']}): AUC {interval_text(found['figures']['roc_auc'])}"
        for column, bands in report.get("subgroups", {}).items()
        for band, found in bands.items()
    ]
    return "; ".join(told)


def miscalibration(report: Report) -> tuple[str, str] | None:
    """What is wrong with the probabilities and the figure that shows it; an empty word where nothing is shown to be.

    None where calibration cannot be assessed. Where the classes are told apart without a fault there is no slope.
    """
    slope, shift = report["test"]["calibration_slope"], report["test"]["calibration_intercept"]
    is_tilt_known, is_lift_known = (None not in (one["lower"], one["upper"]) for one in (slope, shift))
    tilt, lift = f"calibration slope {interval_text(slope)}", f"calibration intercept {interval_text(shift)}"
    if is_tilt_known and slope["upper"] < 0:
        return "probabilities run against the outcome", tilt
    if is_lift_known and shift["lower"] > 0:
        return "risk underestimated", lift
    if is_lift_known and shift["upper"] < 0:
        return "risk overestimated", lift
    if not (is_tilt_known and is_lift_known):
        return None
    if slope["upper"] < 1:
        return "over-confident", tilt
    return ("under-confident", tilt) if slope["lower"] > 1 else ("", tilt)


def abstaining(report: Report) -> str:
    """How often no class is given."""
    said = report["abstained"]
    reasons = f"; reasons: {counted(said['reasons'])}" if said.get("reasons") else ""
    cases = f"{said['n']} of {report['n_test']} test {units(report)} ({said['share']:.1%})"
    counted_too = " The figures of decisions count them too, as they would have been decided." if said["n"] else ""
    return f"The service would give no class for {cases}{reasons}.{counted_too}"


def software(report: Report) -> str:
    """The versions of what it was made with."""
    environment = report["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return f"Python {environment['python']}; {packages}"


def formula(report: Report) -> str:
    """What one needs to compute a prediction again."""
    return (
        f"bundle {report['bundle'][:12]}: model.onnx with bundle.json (classes, preparation, temperature, threshold), "
        f"usable without medloop by any ONNX runtime; differs from the trained model by at most {report['parity']:.1g}"
    )


def units(report: Report) -> str:
    """What gets one answer, and counts once in every figure of the test."""
    return "patients" if (report.get("decide") or {}).get("per") == "patient" else "cases"


def as_two_sides(report: Report) -> str:
    """What a count of right and wrong decisions is of, where several classes are taken for two."""
    two = len(report["classes"]) > 2 and len(report["confusion"]["counts"]) == 2
    return " as positive or negative" if two else ""


def wrong(report: Report) -> str:
    """How many were wrong and which most."""
    worst = report.get("most_wrong")
    if worst is None:
        return ""
    counts = report["confusion"]["counts"]
    errors = sum(n for r, row in enumerate(counts) for c, n in enumerate(row) if r != c)
    shown = f"report.html shows the {len(worst)} most wrong" if worst else ""
    return joined(f"{errors} of {report['n_test']} test {units(report)} misclassified{as_two_sides(report)}", shown)


def beside(report: Report) -> str:
    """What stands beside the model."""
    other = report.get("beside")
    if not other:
        return ""
    gain = {**other["gain"]["roc_auc"], "value": other["gain"]["roc_auc"]["difference"]}
    area = interval_text(other["figures"]["roc_auc"])
    return f"{other['name']} on the same cases: AUC {area}; the model's AUC is larger by {interval_text(gain)}"
