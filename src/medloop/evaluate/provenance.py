"""How a bundle came about, in sentences built from what its stages recorded; what none did is said to be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.sentences import joined, listed

Report = Mapping[str, Any]
Facts = Mapping[str, Any]

UNKNOWN = "not recorded in this bundle"
PART_NAMES = {"train": "training part", "val": "validation part", "calib": "calibration part", "test": "test part"}


def facts_of(report: Report, stage: str) -> Facts:
    """What the stage recorded of itself; empty where the bundle is older than that."""
    return (report.get("facts") or {}).get(stage) or {}


def partition(report: Report) -> str:
    """Which cases were used for what, and how they were set apart."""
    parts = facts_of(report, "split").get("parts") or (report.get("study") or {}).get("parts")
    if not parts:
        return ""
    counts = "; ".join(f"{name}: {part['cases']} cases{_patients(part)}" for name, part in parts.items())
    locked = f"the test part is locked as edition {report['edition']}"
    return "; ".join([counts, assignment(report), split_level(report), folds_made(report), locked])


def _patients(part: Facts) -> str:
    return f" of {part['patients']} patients" if part["patients"] else ""


def assignment(report: Report) -> str:
    """Which parts the source gave and which were drawn, and how."""
    split = facts_of(report, "split")
    if not split:
        return f"how the parts were set apart is {UNKNOWN}"
    given = [f"the {PART_NAMES[name]} is {_given(sources)}" for name, sources in split["official"].items()]
    drawn = [f"the {PART_NAMES[name]} ({_share(split, name)})" for name in split["drawn"]]
    rule = f"{listed(drawn)} drawn at random, stratified by class, seed {split['seed']}" if drawn else ""
    smoke = "a smoke run: a fifth of the cases, drawn at random" if split["smoke"] else ""
    return joined(smoke, *given, rule)


def _given(sources: list[str]) -> str:
    return f"the source's own {listed(PART_NAMES[name] for name in sources)}"


def _share(split: Facts, name: str) -> str:
    cases = split["parts"][name]["cases"]
    return f"{cases} of {split['cases']} cases, {cases / split['cases']:.1%}"


def intended_test(report: Report) -> str:
    """How many test cases were asked for."""
    split = facts_of(report, "split")
    if not split:
        return f"how many were asked for is {UNKNOWN}"
    if "test" in split["official"]:
        return f"as many as {_given(split['official']['test'])} holds"
    return f"{split['drawn']['test']:.0%} of the cases (split.test)"


def split_level(report: Report) -> str:
    """Whether the parts are apart by patient, by study or by case, and what became of copies."""
    split = facts_of(report, "split")
    if not split:
        return _level_as_counted(report)
    named, cases = split["cases_with_patient"], split["cases"]
    if named == cases:
        level = "set apart by patient: all cases of a patient are in one part"
    elif named:
        level = f"set apart by patient for the {named} of {cases} cases that name one, by case for the others"
    elif split["cases_with_study"]:
        level = (
            f"set apart by study, which {split['cases_with_study']} of {cases} cases name; the data name no patients"
        )
    else:
        level = "set apart by case: the data name no patients"
    return f"{level}; {_copies(split['copies'])}"


def _copies(groups: int) -> str:
    if not groups:
        return "the audit found no copies to keep together"
    return f"{groups} group(s) of copies found by the audit, each kept in one part"


def _level_as_counted(report: Report) -> str:
    """Of an older bundle only what can be counted in the files."""
    study = report.get("study") or {}
    if not study.get("patients"):
        return "the data name no patients"
    return f"patients with cases in more than one part: {study['patients_in_several_parts']}"


def folds_made(report: Report) -> str:
    """How often the training was repeated on a part of its cases."""
    train = facts_of(report, "train")
    if report["folds"]:
        return f"cross-validation in {report['folds']} folds of the {fold_parts(report)}"
    return "no cross-validation" if train else "no folds were run"


def fold_parts(report: Report) -> str:
    """What was cut into folds; the validation part is one more fold of a head."""
    return "training and validation parts" if "validation" in report["calibration"]["fitted_on"] else "training part"


def fold_decision(report: Report) -> str:
    """How the folds decided."""
    if report.get("cross_validation_rule") == "served":
        return "by the served rule, its threshold chosen on the other folds"
    return f"for {facts_of(report, 'train').get('fold_decision', 'the likeliest class (0.5 for two classes)')}"


def training(report: Report) -> str:
    """What was fitted on which cases, with the values that were really used."""
    train = facts_of(report, "train")
    if not train:
        return f"{report['n_train']} training cases, seed {report['model']['seed']}; further values: {UNKNOWN}"
    told = (_fitted(report, train), weighting(report), _settings(train), f"seed {train['seed']}", tuned_values(report))
    return joined(*told, folds_made(report))


def _fitted(report: Report, train: Facts) -> str:
    cases = count_text(train)
    if train["task"] == "table":
        return f"fitted on {cases} of the training part"
    if train["mode"] == "head":
        refitted = facts_of(report, "export").get("head_fitted_on")
        again = f", fitted again for the bundle on {refitted} cases" if refitted else ""
        return (
            f"a linear head on the features of the backbone, whose weights stay as they were; fitted on {cases}{again}"
        )
    learned = "the head alone, the backbone frozen" if train["frozen"] else "all weights"
    epochs = train["epochs"]
    early = f", stopped after {epochs['patience']} without improvement" if epochs["run"] < epochs["asked"] else ""
    return f"{learned} trained on {cases} for {epochs['run']} of at most {epochs['asked']} epochs{early}"


def count_text(facts: Facts) -> str:
    """456 cases, or 400 cases of 100 patients or groups."""
    groups = facts.get("groups") or facts.get("patients")
    apart = f" of {groups} patients or groups" if groups and groups < facts["cases"] else ""
    return f"{facts['cases']} cases{apart}"


def _settings(train: Facts) -> str:
    """The values of the mode that ran, tuned ones among them."""
    values = dict(train.get("settings", {}))
    augment = values.pop("augment", None)
    told = [f"{name} {value_text(value)}" for name, value in values.items()]
    if augment is not None:
        changes = [f"{name} {value_text(value)}" for name, value in augment.items() if value]
        told.append(f"random changes: {', '.join(changes) or 'none'}")
    return ", ".join(told)


def value_text(value: Any) -> str:
    """Three digits of a number; anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tuned_values(report: Report) -> str:
    """The values that tuning chose; empty where it chose none."""
    tuned = facts_of(report, "train").get("tuned")
    return (
        "chosen by tuning: " + ", ".join(f"{name} {value_text(value)}" for name, value in tuned.items())
        if tuned
        else ""
    )


def weighting(report: Report) -> str:
    """Whether rare classes counted for more."""
    model = report["model"]
    used = facts_of(report, "train").get("weighting")
    if used is None:
        used = model["params"].get("class_weight") or ("balanced" if model.get("balanced") else "none")
    if used == "none":
        return "no class weights, no resampling"
    return (
        "resampling: each class drawn equally often"
        if used == "sampler"
        else "class weights: every class counts equally"
    )


def is_weighted(report: Report) -> bool:
    """Whether classes counted in training otherwise than by their number of cases."""
    return not weighting(report).startswith("no ")


def preparation(report: Report) -> str:
    """How a case becomes the model's input."""
    how = report["preparation"]
    if how["kind"] == "table":
        return joined(
            f"{how['numbers']} columns of numbers (an empty cell becomes the median of the training cases)"
            if how["numbers"]
            else "",
            f"{how['categories']} columns of categories (an empty cell is a category of its own)"
            if how["categories"]
            else "",
            "all inside the bundle's graph",
        )
    height, width = how["size"]
    study = report.get("study") or {}
    origin = f"; originals {study['images']['size']} pixels" if study.get("images") else ""
    window, fit = how["rule"].get("window"), how["fit"]
    return f"decoded (grey window {window}), {fit} to {height} x {width} pixels, {how['channels']} channel(s){origin}"


def decides_for(report: Report) -> str:
    """What gets one answer: a case, or a patient by a rule."""
    decide = report["decide"]
    if decide["per"] == "patient":
        return f"one answer a patient: the {decide.get('rule', 'mean')} of its images"
    return "one answer an image" if report["task"] == "images" else "one answer a row"


def intervals(report: Report) -> str:
    """How the intervals were made, by the methods that the figures carry."""
    named: dict[str, list[str]] = {}
    for name, figure in report["test"].items():
        if (method := _method(figure.get("method") or "none")) != "none":
            named.setdefault(method, []).append(name)
    methods = [f"{method} ({', '.join(names)})" for method, names in named.items()]
    used = facts_of(report, "evaluate")
    draws = f"bootstraps: {used['draws']} draws, seed {used['seed']}" if used else f"number of draws: {UNKNOWN}"
    return joined(f"95% intervals: {', '.join(methods)}", draws, _independence(used))


def _method(method: str) -> str:
    """The method without the counts of one figure."""
    for family in ("Wilson", "exact bound"):
        if method.startswith(family):
            return family
    return "percentile bootstrap" if "percentile bootstrap" in method else method


def _independence(used: Facts) -> str:
    """What counts as independent: groups where cases come in some."""
    if not used:
        return ""
    if used["groups"] == used["cases"]:
        return "each test case counts as independent" + (
            "" if used["patients_known"] else ", because the data name no patients"
        )
    what = "patient or group of copies" if used["patients_known"] else "study or group of copies"
    return f"cases of one {what} stay together ({used['groups']} groups among {used['cases']} cases)"


def evaluated(report: Report) -> str:
    """The settings of this evaluation, which may be others than those that the bundle keeps."""
    used = facts_of(report, "evaluate")
    prevalence = f", prevalence {used['prevalence']:g}" if used["prevalence"] is not None else ""
    return f"evaluated with {used['draws']} draws, seed {used['seed']}{prevalence}"
