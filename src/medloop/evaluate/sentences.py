"""What the files tell, in sentences: the card, the page and the reporting tables say the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def alternatives(names: Iterable[str]) -> str:
    """a, b or c"""
    known = list(names)
    return " or ".join([", ".join(known[:-1]), known[-1]]) if len(known) > 1 else "".join(known)


def kind_of_data(report: Report) -> str:
    """images, or rows of a table"""
    return "images" if report["task"] == "images" else "rows of a table"


def threshold(report: Report) -> str:
    """How probabilities become a decision."""
    value, rule = report["threshold"]["value"], report["threshold"]["rule"]
    return str(rule) if value is None else f"{value:.4f}, by the rule `{rule}`"


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
    return f"{counted(study['sources'])} (data version {report['data_version'][:12]})" if study else ""


def partition(report: Report) -> str:
    """Which cases were used for what."""
    study = report.get("study")
    if not study:
        return ""
    parts = [f"{name}: {part['cases']} cases{_patients(part)}" for name, part in study["parts"].items()]
    split = report["recipe"]["split"]
    rule = f"by {split_level(report)}, stratified by class, seed {split['seed']}, {split['folds']} folds in training"
    return f"{'; '.join(parts)}; set apart {rule}; the test part is locked as edition {report['edition']}"


def _patients(part: Mapping[str, Any]) -> str:
    return f" of {part['patients']} patients" if part["patients"] else ""


def split_level(report: Report) -> str:
    """patient, or case"""
    study = report.get("study") or {}
    return "patient and near duplicate" if study.get("patients") else "case and near duplicate"


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
    return f"empty cells: {empty or 'none'}; the bundle's own pipeline imputes them, fitted on training cases"


def audit(report: Report) -> str:
    """What was examined before training."""
    study = report.get("study")
    if not study:
        return ""
    found = "; ".join(f"{one['name']} ({one['severity']})" for one in study["findings"]) or "nothing"
    accepted = listed(report["accepted_findings"]) or "none"
    return f"audit before training found: {found}; severe findings accepted by name: {accepted}"


def preparation(report: Report) -> str:
    """How a case becomes the model's input."""
    prepare, study = report["recipe"]["prepare"], report.get("study")
    if report["task"] != "images":
        return f"{report['n_features']} columns; categories and empty cells are treated inside the bundle's graph"
    size = prepare["size"]
    shown = size if isinstance(size, int) else " x ".join(map(str, size))
    origin = f"; originals {study['images']['size']} pixels" if study and study["images"] else ""
    fitted = f"{prepare['fit']} to {shown} pixels, {prepare['channels']} channel(s)"
    return f"decoded, window {prepare['window']}, {fitted}{origin}"


def training(report: Report) -> str:
    """How it was trained, as far as the recipe says."""
    train = ", ".join(
        f"{name} {value}" for name, value in report["recipe"]["train"].items() if not isinstance(value, dict)
    )
    return f"{report['n_train']} training cases; {train}"


def tuning(report: Report) -> str:
    """How values were chosen."""
    tune = report["recipe"]["tune"]
    if not tune["trials"]:
        return "no tuning: the values are those of the recipe"
    return f"{tune['trials']} trials on training folds for {tune['metric']}"


def calibration(report: Report) -> str:
    """How probabilities were calibrated."""
    found = report["calibration"]
    return f"temperature {found['temperature']:.3f}, fitted on {found['fitted_on']} ({found['n']} cases)"


def performance(report: Report, names: Iterable[str] = ("roc_auc", "recall", "specificity", "brier")) -> str:
    """The main figures."""
    told = [f"{name} {interval_text(report['test'][name])}" for name in names if report["test"].get(name)]
    return "; ".join(told) + f"; {report['n_test']} locked test cases ({counted(report['test_counts'])})"


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


def abstaining(report: Report) -> str:
    """How often no class is given."""
    said = report["abstained"]
    return (
        f"The service would give no class for {said['n']} of {report['n_test']} test cases ({said['share']:.1%}): "
        "too close to call, far from anything seen in training, or not a picture that the model can judge."
    )


def intervals(report: Report) -> str:
    """How intervals were made."""
    draws = report["recipe"]["evaluate"]["draws"]
    return (
        "95% intervals: Wilson's for shares, a score interval with Hanley and McNeil's variance for an AUC, "
        "both allowing for several cases of a patient (the latter by Obuchowski's variance); "
        f"else a percentile bootstrap of {draws} draws in which a patient's cases stay together"
    )


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


def wrong(report: Report) -> str:
    """How many were wrong and which most."""
    worst = report.get("most_wrong")
    if worst is None:
        return ""
    counts = report["confusion"]["counts"]
    errors = sum(n for r, row in enumerate(counts) for c, n in enumerate(row) if r != c)
    return f"{errors} of {report['n_test']} test cases decided wrongly; report.html shows the {len(worst)} most wrong"


def beside(report: Report) -> str:
    """What stands beside the model."""
    other = report.get("beside")
    if not other:
        return ""
    gain = {**other["gain"]["roc_auc"], "value": other["gain"]["roc_auc"]["difference"]}
    area = interval_text(other["figures"]["roc_auc"])
    return f"{other['name']} on the same cases: AUC {area}; the model's AUC is larger by {interval_text(gain)}"
