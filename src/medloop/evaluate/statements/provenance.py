"""The provenance of a bundle, in sentences from the facts that its stages recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.statements.sentences import joined, listed
from medloop.wording import plural

Report = Mapping[str, Any]
Facts = Mapping[str, Any]

UNKNOWN = "not recorded in this bundle"
NO_PATIENTS = "the data do not identify patients"
FITTED = {"pad": "padded", "stretch": "stretched", "crop": "cropped"}
PART_NAMES = {"train": "training part", "val": "validation part", "calib": "calibration part", "test": "test part"}


def facts_of(report: Report, stage: str) -> Facts:
    """Return the facts that the stage recorded; empty for bundles of older releases."""
    return (report.get("facts") or {}).get(stage) or {}


def partition(report: Report) -> str:
    """Return the partitions of the cases, and how they were formed."""
    parts = facts_of(report, "split").get("parts") or (report.get("study") or {}).get("parts")
    if not parts:
        return ""
    counts = "; ".join(f"{name}: {part['cases']} cases{_patients(part)}" for name, part in parts.items())
    locked = f"the test part is locked as edition {report['edition']}"
    return "; ".join([counts, assignment(report), split_level(report), folds_made(report), locked])


def _patients(part: Facts) -> str:
    return f" of {part['patients']} patients" if part["patients"] else ""


def assignment(report: Report) -> str:
    """Return which parts come from the source and which were drawn, and how."""
    split = facts_of(report, "split")
    if not split:
        return f"how the cases were partitioned is {UNKNOWN}"
    official = [f"the {PART_NAMES[name]} is {_official_part(sources)}" for name, sources in split["official"].items()]
    drawn = [f"the {PART_NAMES[name]} ({_share(split, name)})" for name in split["drawn"]]
    rule = f"{listed(drawn)} drawn at random, stratified by class, seed {split['seed']}" if drawn else ""
    smoke = "smoke run: a fifth of the cases, drawn at random" if split["smoke"] else ""
    return joined(smoke, *official, rule)


def _official_part(sources: list[str]) -> str:
    return f"the source's {listed(PART_NAMES[name] for name in sources)}"


def _share(split: Facts, name: str) -> str:
    cases = split["parts"][name]["cases"]
    return f"{cases} of {split['cases']} cases, {cases / split['cases']:.1%}"


def intended_test(report: Report) -> str:
    """Return the intended number of test cases."""
    split = facts_of(report, "split")
    if not split:
        return f"the intended number is {UNKNOWN}"
    if "test" in split["official"]:
        return f"all cases of {_official_part(split['official']['test'])}"
    return f"{split['drawn']['test']:.0%} of the cases (split.test)"


def split_level(report: Report) -> str:
    """Return whether the cases were partitioned by patient, study or case, and how duplicates were handled."""
    split = facts_of(report, "split")
    if not split:
        return _counted_level(report)
    named, cases = split["cases_with_patient"], split["cases"]
    if named == cases:
        level = "partitioned by patient: all cases of a patient are in one part"
    elif named:
        level = f"partitioned by patient for the {named} of {cases} cases with a patient ID, by case for the others"
    elif split["cases_with_study"]:
        level = f"partitioned by study, which {split['cases_with_study']} of {cases} cases identify; {NO_PATIENTS}"
    else:
        level = f"partitioned by case: {NO_PATIENTS}"
    return f"{level}; {_duplicates(split['copies'])}"


def _duplicates(groups: int) -> str:
    if not groups:
        return "the audit found no duplicates"
    return f"{groups} group(s) of duplicates found by the audit, each kept in one part"


def _counted_level(report: Report) -> str:
    """Return, for bundles of older releases, what can be counted in the data."""
    study = report.get("study") or {}
    if not study.get("patients"):
        return NO_PATIENTS
    return f"patients with cases in more than one part: {study['patients_in_several_parts']}"


def folds_made(report: Report) -> str:
    """Return the number of folds of the cross-validation, and their cases."""
    train = facts_of(report, "train")
    if report["folds"]:
        return f"cross-validation in {report['folds']} folds of the {fold_parts(report)}"
    return "no cross-validation" if train else "no folds were run"


def fold_parts(report: Report) -> str:
    """Return which parts were divided into folds; for a head the validation part is one more fold."""
    return "training and validation parts" if "validation" in report["calibration"]["fitted_on"] else "training part"


def fold_decision(report: Report) -> str:
    """Return the decision rule of the folds."""
    if report.get("cross_validation_rule") == "served":
        return "by the served rule, with the threshold from the other folds"
    return f"for {facts_of(report, 'train').get('fold_decision', 'the most probable class (0.5 for two classes)')}"


def training(report: Report) -> str:
    """Return what was fitted on which cases, with the hyperparameters that were used."""
    train = facts_of(report, "train")
    if not train:
        return f"{report['n_train']} training cases, seed {report['model']['seed']}; further settings: {UNKNOWN}"
    seed = f"seed {train['seed']}"
    fit = (_fit(report, train), weighting(report), _settings(train), seed, tuned_values(report))
    return joined(*fit, folds_made(report))


def _fit(report: Report, train: Facts) -> str:
    cases = count_text(train)
    if train["task"] == "table":
        return f"fitted on {cases} of the training part"
    if train["mode"] == "head":
        refitted = facts_of(report, "export").get("head_fitted_on")
        again = f", refitted for the bundle on {refitted} cases" if refitted else ""
        return f"a linear head on the features of the frozen backbone; fitted on {cases}{again}"
    learned = "the head alone, with a frozen backbone" if train["frozen"] else "all weights"
    epochs = train["epochs"]
    early = (
        f", stopped after {epochs['patience']} epochs without improvement" if epochs["run"] < epochs["asked"] else ""
    )
    return f"{learned} trained on {cases} for {epochs['run']} of at most {epochs['asked']} epochs{early}"


def count_text(facts: Facts) -> str:
    """Return the number of cases: 456 cases, or 400 cases of 100 patients or groups."""
    groups = facts.get("groups") or facts.get("patients")
    apart = f" of {groups} patients or groups" if groups and groups < facts["cases"] else ""
    return f"{facts['cases']} cases{apart}"


def _settings(train: Facts) -> str:
    """Return the settings of the training, including the tuned ones."""
    values = dict(train.get("settings", {}))
    augment = values.pop("augment", None)
    settings = [f"{name} {value_text(value)}" for name, value in values.items()]
    if augment is not None:
        changes = [f"{name} {value_text(value)}" for name, value in augment.items() if value]
        settings.append(f"augmentation: {', '.join(changes) or 'none'}")
    return ", ".join(settings)


def value_text(value: Any) -> str:
    """Return a number with three digits, anything else unchanged."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tuned_values(report: Report) -> str:
    """Return the values that tuning chose; empty without tuning."""
    tuned = facts_of(report, "train").get("tuned")
    return (
        "chosen by tuning: " + ", ".join(f"{name} {value_text(value)}" for name, value in tuned.items())
        if tuned
        else ""
    )


def weighting(report: Report) -> str:
    """Return how the classes were weighted in training."""
    model = report["model"]
    used = facts_of(report, "train").get("weighting")
    if used is None:
        used = model["params"].get("class_weight") or ("balanced" if model.get("balanced") else "none")
    if used == "none":
        return "no class weights, no resampling"
    return (
        "resampling: each class drawn equally often"
        if used == "sampler"
        else "class weights: all classes have the same total weight"
    )


def is_weighted(report: Report) -> bool:
    """Return whether the classes were weighted or resampled in training."""
    return not weighting(report).startswith("no ")


def preparation(report: Report) -> str:
    """Return how the model's input is prepared."""
    how = report["preparation"]
    if how["kind"] == "table":
        numbers = f"{plural(how['numbers'], 'numerical column')} (missing values: median of the training cases)"
        categories = f"{plural(how['categories'], 'categorical column')} (a missing value is its own category)"
        columns = [text for count, text in ((how["numbers"], numbers), (how["categories"], categories)) if count]
        return joined(*columns, "all computed in the bundle's ONNX graph")
    height, width = how["size"]
    study = report.get("study") or {}
    origin = f"; originals {study['images']['size']} pixels" if study.get("images") else ""
    window, fitted = how["rule"].get("window"), FITTED[how["fit"]]
    return (
        f"decoded (grey window {window}), {fitted} to {height} x {width} pixels, {how['channels']} channel(s){origin}"
    )


def decides_for(report: Report) -> str:
    """Return the unit that gets one result: a case, or a patient by a rule."""
    decide = report["decide"]
    if decide["per"] == "patient":
        return f"one result per patient: the {decide.get('rule', 'mean')} of its images"
    return "one result per image" if report["task"] == "images" else "one result per row"


def intervals(report: Report) -> str:
    """Return the methods of the intervals."""
    named: dict[str, list[str]] = {}
    for name, figure in report["test"].items():
        if (method := _method(figure.get("method") or "none")) != "none":
            named.setdefault(method, []).append(name)
    methods = [f"{method} ({', '.join(names)})" for method, names in named.items()]
    used = facts_of(report, "evaluate")
    draws = (
        f"bootstrap: {used['draws']} draws, seed {used['seed']}" if used else f"number of bootstrap draws: {UNKNOWN}"
    )
    return joined(f"95% intervals: {', '.join(methods)}", draws, _independence(used))


def _method(method: str) -> str:
    """Return the method without the counts of one figure."""
    for family in ("Wilson", "exact bound"):
        if method.startswith(family):
            return family
    return "percentile bootstrap" if "percentile bootstrap" in method else method


def _independence(used: Facts) -> str:
    """Return which cases are treated as independent."""
    if not used:
        return ""
    if used["groups"] == used["cases"]:
        return "test cases are treated as independent" + ("" if used["patients_known"] else f", because {NO_PATIENTS}")
    unit = "patient or group of duplicates" if used["patients_known"] else "study or group of duplicates"
    return f"cases of one {unit} are resampled together ({used['groups']} groups among {used['cases']} cases)"


def evaluated(report: Report) -> str:
    """Return the settings of this evaluation, which may differ from those stored in the bundle."""
    used = facts_of(report, "evaluate")
    prevalence = f", prevalence {used['prevalence']:g}" if used["prevalence"] is not None else ""
    return f"evaluated with {used['draws']} draws, seed {used['seed']}{prevalence}"
