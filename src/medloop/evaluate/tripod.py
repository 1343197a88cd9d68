"""TRIPOD+AI (Collins and others, 2024): reporting a prediction model that was developed and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate import provenance, selection
from medloop.evaluate import sentences as say
from medloop.evaluate.checklist import Fill, items
from medloop.evaluate.limits import limitations, limits

Report = Mapping[str, Any]


def _title(report: Report) -> str:
    return (
        f"Development and evaluation of {report['name']}, a {report['model']['name']} model that tells apart "
        f"{say.target(report)} from {say.kind_of_data(report)}"
    )


def _abstract(report: Report) -> str:
    parts = provenance.partition(report)
    return ". ".join(text for text in (_title(report), parts, say.performance(report), limits(report)[0]) if text)


def _sizes(report: Report) -> str:
    labels = say.labels_by_part(report)
    return labels and say.joined(labels, say.excluded(report), provenance.assignment(report))


def _measures(report: Report) -> str:
    return (
        "discrimination: ROC and precision-recall curves and areas; calibration: slope, intercept, ECE, Brier, plot; "
        f"use: decision curve, sensitivity, specificity, risk against coverage. {provenance.intervals(report)}"
    )


def _output(report: Report) -> str:
    classes, decided = say.listed(report["classes"]), selection.threshold_choice(report)
    return (
        f"a probability for each of {classes}; a class ({decided}); the set of classes that remain possible; or no "
        "class, with the reason"
    )


def _fairness(report: Report) -> str:
    names = list(report.get("subgroups") or {})
    return f"performance is given by {say.listed(names)}" if names else ""


def _balance(report: Report) -> str:
    refers = "so the probabilities refer to the shares of the classes among the training cases"
    if provenance.is_weighted(report):
        refers = "which a temperature does not undo: the probabilities do not refer to the shares of the classes"
    return f"{provenance.weighting(report)}, {refers}; {selection.calibration(report)}"


def _heterogeneity(report: Report) -> str:
    bands = report.get("subgroups", {})
    found = {name: rows for name, rows in bands.items() if name in ("source", "site", "scanner", "centre", "center")}
    return say.subgroups({**report, "subgroups": found})


def _differences(report: Report) -> str:
    study = report.get("study")
    if not study:
        return ""
    return (
        f"sources of all parts: {say.counted(study['sources'])}; {provenance.assignment(report)}; "
        f"{provenance.split_level(report)}; classes: {say.labels_by_part(report)}"
    )


def _by_part(report: Report) -> str:
    parts = (report.get("study") or {}).get("parts", {})
    told = [
        f"{part}, {column}: {say.counted(bands)}"
        for part, found in parts.items()
        for column, bands in found["subgroups"].items()
    ]
    return "; ".join([say.labels_by_part(report), *told]) if parts else ""


def _performance(report: Report) -> str:
    told = (say.performance(report), say.by_class(report), say.subgroups(report), say.beside(report))
    return ". ".join(text for text in told if text)


def _bad_input(report: Report) -> str:
    return (
        "the service refuses what it cannot read or what lacks a column, and gives no class for what lies far from "
        f"the training cases (limit at the {report['outliers']['quantile']:.1%} quantile) or is too "
        f"close to call. {say.abstaining(report)}"
    )


def _code(report: Report) -> str:
    commit = f"git commit {report['git_commit']}" if report["git_commit"] else "not in a git repository"
    return f"recipe stored in the bundle; {commit}; {say.software(report)}"


def _quality(report: Report) -> str:
    return f"{provenance.preparation(report)}. {say.audit(report)}" if say.audit(report) else ""


def _outcome(report: Report) -> str:
    return f"the label, one of {say.target(report)}"


def _predictors(report: Report) -> str:
    return f"{report['n_features']} values a case: {provenance.preparation(report)}; listed in bundle.json"


def _building(report: Report) -> str:
    chosen = (provenance.training(report), selection.tuning(report), selection.chosen_epoch(report))
    return say.joined(say.model(report), *chosen)


def _recalibration(report: Report) -> str:
    return f"none after the evaluation; before it: {selection.calibration(report)}"


def _protocol(report: Report) -> str:
    bundle = f"the bundle {report['bundle'][:12]}"
    return f"the recipe as it was at the export, with the gate's rules, is in {bundle}; {provenance.evaluated(report)}"


def _updating(report: Report) -> str:
    return f"no updating; parent version: {report['parent'] or 'none'}"


ASKED = (
    ("1", "Title", "Name the study as one of a prediction model, with people and outcome"),
    ("2", "Abstract", "A structured summary (see TRIPOD+AI for abstracts)"),
    ("3a", "Background", "The medical question, why a model is wanted, and earlier models"),
    ("3b", "Background", "For whom it is meant, where in care, and who will use it"),
    ("3c", "Background", "Known differences in health between groups of people"),
    ("4", "Objectives", "What was to be shown: development, evaluation or both"),
    ("5a", "Data", "Sources of development and evaluation data, and how typical they are"),
    ("5b", "Data", "The dates between which the data were collected"),
    ("6a", "Participants", "Setting, number and place of the centres"),
    ("6b", "Participants", "Who could take part and who could not"),
    ("6c", "Participants", "Treatments received, and how they were dealt with"),
    ("7", "Data preparation", "Cleaning and quality checks, and whether alike for all groups"),
    ("8a", "Outcome", "What is predicted, when and how it was determined"),
    ("8b", "Outcome", "Who judged the outcome, with what training, where judgement was needed"),
    ("8c", "Outcome", "Whether those who judged knew the predictors"),
    ("9a", "Predictors", "How the first predictors were chosen"),
    ("9b", "Predictors", "Each predictor, and how and when it was measured"),
    ("9c", "Predictors", "Who judged the predictors, where judgement was needed"),
    ("10", "Sample size", "How the number of cases came about and whether it is enough"),
    ("11", "Missing data", "How missing values were dealt with, and what was left out"),
    ("12a", "Analysis", "How the data were used and divided"),
    ("12b", "Analysis", "How predictors enter the model"),
    ("12c", "Analysis", "The kind of model, how it was built and tuned, internal validation"),
    ("12d", "Analysis", "How differences between centres or countries were dealt with"),
    ("12e", "Analysis", "Measures and plots of performance, comparison of models"),
    ("12f", "Analysis", "Updating or recalibration after the evaluation"),
    ("12g", "Analysis", "How the predictions of the evaluation were computed"),
    ("13", "Class imbalance", "What was done about rare classes, and to the probabilities after"),
    ("14", "Fairness", "What was done for fairness, and why"),
    ("15", "Model output", "What the model gives, and how thresholds were found"),
    ("16", "Training versus evaluation", "How development and evaluation data differ"),
    ("17", "Ethics", "Approval and consent"),
    ("18a", "Open science", "Funding"),
    ("18b", "Open science", "Conflicts of interest"),
    ("18c", "Open science", "Where the protocol is"),
    ("18d", "Open science", "Registration"),
    ("18e", "Open science", "Whether and how the data can be had"),
    ("18f", "Open science", "Whether and how the code can be had"),
    ("19", "Public involvement", "What part patients and the public had"),
    ("20a", "Results, participants", "The flow of participants, with and without the outcome"),
    ("20b", "Results, participants", "What they were like, in all and by source and group"),
    ("20c", "Results, participants", "Development and evaluation data beside each other"),
    ("21", "Results, development", "Participants and outcomes in each analysis"),
    ("22", "Results, specification", "The whole model, so that others can predict and test"),
    ("23a", "Results, performance", "Performance with intervals, also of important groups"),
    ("23b", "Results, performance", "Differences of performance between clusters"),
    ("24", "Results, updating", "What updating led to"),
    ("25", "Interpretation", "What the results mean, also for fairness, beside earlier studies"),
    ("26", "Limitations", "What the study cannot show, and where it may be biased"),
    ("27a", "Use", "How poor or absent input is noticed and dealt with"),
    ("27b", "Use", "What users must do and know"),
    ("27c", "Use", "What should be studied next"),
)

FILLED: Mapping[str, Fill] = {
    "1": _title,
    "2": _abstract,
    "4": _title,
    "5a": say.sources,
    "7": _quality,
    "8a": _outcome,
    "9a": provenance.preparation,
    "9b": _predictors,
    "10": _sizes,
    "11": say.missing,
    "12a": provenance.partition,
    "12b": provenance.preparation,
    "12c": _building,
    "12d": _heterogeneity,
    "12e": _measures,
    "12f": _recalibration,
    "12g": say.formula,
    "13": _balance,
    "14": _fairness,
    "15": _output,
    "16": _differences,
    "18c": _protocol,
    "18f": _code,
    "20a": say.flow,
    "20b": _by_part,
    "20c": _differences,
    "21": say.labels_by_part,
    "22": say.formula,
    "23a": _performance,
    "23b": _heterogeneity,
    "24": _updating,
    "26": limitations,
    "27a": _bad_input,
}

ITEMS = items(ASKED, FILLED)
