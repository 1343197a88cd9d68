"""TRIPOD+AI (Collins et al., 2024): reporting of a prediction model that was developed and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.checklists.items import Fill, items
from medloop.evaluate.statements import provenance, selection
from medloop.evaluate.statements import sentences as say
from medloop.evaluate.statements.limits import limitations, limits
from medloop.wording import plural

Report = Mapping[str, Any]


def _title(report: Report) -> str:
    return (
        f"Development and evaluation of {report['name']}, a {report['model']['name']} model that distinguishes "
        f"{say.target(report)} on {say.kind_of_data(report)}"
    )


def _abstract(report: Report) -> str:
    parts = provenance.partition(report)
    return ". ".join(text for text in (_title(report), parts, say.performance(report), limits(report)[0]) if text)


def _sizes(report: Report) -> str:
    labels = say.labels_by_part(report)
    return labels and say.joined(labels, say.excluded(report), provenance.assignment(report))


def _measures(report: Report) -> str:
    return (
        "discrimination: ROC and precision-recall curves with their areas; calibration: slope, intercept, ECE, Brier "
        "score, plot; clinical utility: decision curve, sensitivity, specificity, risk-coverage curve. "
        f"{provenance.intervals(report)}"
    )


def _output(report: Report) -> str:
    classes, decided = say.listed(report["classes"]), selection.threshold_choice(report)
    return (
        f"a probability for each of {classes}; a class ({decided}) or an abstention with its reason; the conformal "
        "set of possible classes"
    )


def _fairness(report: Report) -> str:
    names = list(report.get("subgroups") or {})
    return f"performance is reported by {say.listed(names)}" if names else ""


def _balance(report: Report) -> str:
    prevalence = "so the probabilities refer to the class frequencies among the training cases"
    if provenance.is_weighted(report):
        prevalence = (
            "which temperature scaling does not correct: the probabilities do not refer to the class frequencies"
        )
    return f"{provenance.weighting(report)}, {prevalence}; {selection.calibration(report)}"


def _heterogeneity(report: Report) -> str:
    bands = report.get("subgroups", {})
    found = {name: rows for name, rows in bands.items() if name in ("source", "site", "scanner", "centre", "center")}
    return say.subgroups({**report, "subgroups": found})


def _differences(report: Report) -> str:
    study = report.get("study")
    if not study:
        return ""
    return (
        f"sources of all partitions: {say.cases_by_source(study)}; {provenance.assignment(report)}; "
        f"{provenance.split_level(report)}; classes: {say.labels_by_part(report)}"
    )


def _bad_input(report: Report) -> str:
    return (
        "the service rejects unreadable input and rows with missing columns, and abstains on cases far from the "
        f"training data (beyond the {report['outliers']['quantile']:.1%} quantile) and on cases that are too close to "
        f"call. {say.abstaining(report)}"
    )


def _code(report: Report) -> str:
    commit = f"git commit {report['git_commit']}" if report["git_commit"] else "not in a git repository"
    return f"recipe stored in the bundle; {commit}; {say.software(report)}"


def _quality(report: Report) -> str:
    return f"{provenance.preparation(report)}. {say.audit(report)}" if say.audit(report) else ""


def _outcome(report: Report) -> str:
    return f"the label, one of {say.target(report)}"


def _predictors(report: Report) -> str:
    return f"{plural(report['n_features'], 'value')} per case: {provenance.preparation(report)}; listed in bundle.json"


def _building(report: Report) -> str:
    chosen = (provenance.training(report), selection.tuning(report), selection.chosen_epoch(report))
    return say.joined(say.model(report), *chosen)


def _recalibration(report: Report) -> str:
    return f"none after the evaluation; before: {selection.calibration(report)}"


def _protocol(report: Report) -> str:
    bundle = f"the bundle {report['bundle'][:12]}"
    return (
        f"the recipe at the time of export, with the rules of the gate, is in {bundle}; {provenance.evaluated(report)}"
    )


def _updating(report: Report) -> str:
    return f"no updating; parent version: {report['parent'] or 'none'}"


ASKED = (
    ("1", "Title", "Identification as a prediction model study, with target population and outcome"),
    ("2", "Abstract", "Structured summary (see TRIPOD+AI for abstracts)"),
    ("3a", "Background", "Healthcare context, rationale for the model, and existing models"),
    ("3b", "Background", "Target population, place in the care pathway and intended users"),
    ("3c", "Background", "Known health inequalities between sociodemographic groups"),
    ("4", "Objectives", "Objectives: development, evaluation or both"),
    ("5a", "Data", "Sources of development and evaluation data, and their representativeness"),
    ("5b", "Data", "Dates of data collection"),
    ("6a", "Participants", "Setting, number and location of centres"),
    ("6b", "Participants", "Eligibility criteria"),
    ("6c", "Participants", "Treatments received and how they were handled"),
    ("7", "Data preparation", "Cleaning and quality checks, and whether they were the same for all groups"),
    ("8a", "Outcome", "Definition of the outcome, time horizon and method of assessment"),
    ("8b", "Outcome", "Qualification of outcome assessors, if subjective"),
    ("8c", "Outcome", "Blinding of outcome assessment"),
    ("9a", "Predictors", "Choice of initial predictors"),
    ("9b", "Predictors", "Definition of predictors, and how and when they were measured"),
    ("9c", "Predictors", "Qualification of predictor assessors, if subjective"),
    ("10", "Sample size", "How the sample size was determined and whether it is sufficient"),
    ("11", "Missing data", "Handling of missing data and reasons for omission"),
    ("12a", "Analytical methods", "Use and partitioning of the data"),
    ("12b", "Analytical methods", "Handling of predictors in the analysis"),
    ("12c", "Analytical methods", "Type of model, model building, tuning and internal validation"),
    ("12d", "Analytical methods", "Heterogeneity between clusters, such as centres or countries"),
    ("12e", "Analytical methods", "Measures and plots of performance, comparison of models"),
    ("12f", "Analytical methods", "Model updating or recalibration"),
    ("12g", "Analytical methods", "How the predictions of the evaluation were calculated"),
    ("13", "Class imbalance", "Methods for class imbalance and subsequent recalibration"),
    ("14", "Fairness", "Approaches to fairness and their rationale"),
    ("15", "Model output", "Output of the model, and rationale for thresholds"),
    ("16", "Training versus evaluation", "Differences between development and evaluation data"),
    ("17", "Ethical approval", "Approval and informed consent"),
    ("18a", "Open science", "Funding"),
    ("18b", "Open science", "Conflicts of interest"),
    ("18c", "Open science", "Study protocol"),
    ("18d", "Open science", "Registration"),
    ("18e", "Open science", "Data sharing"),
    ("18f", "Open science", "Code sharing"),
    ("19", "Patient and public involvement", "Involvement of patients and the public"),
    ("20a", "Results, participants", "Flow of participants, with and without the outcome"),
    ("20b", "Results, participants", "Characteristics of participants, overall and by source and group"),
    ("20c", "Results, participants", "Comparison of development and evaluation data"),
    ("21", "Results, model development", "Number of participants and outcome events in each analysis"),
    ("22", "Results, model specification", "Full model, to allow prediction and evaluation by others"),
    ("23a", "Results, model performance", "Performance with confidence intervals, also in key subgroups"),
    ("23b", "Results, model performance", "Heterogeneity of performance between clusters"),
    ("24", "Results, model updating", "Results of model updating"),
    ("25", "Interpretation", "Interpretation of the main results, including fairness and previous studies"),
    ("26", "Limitations", "Limitations, including bias and generalisability"),
    ("27a", "Usability", "Detection and handling of poor quality or missing input"),
    ("27b", "Usability", "Interaction and expertise required of users"),
    ("27c", "Usability", "Next steps for future research"),
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
    "20b": say.subgroups_by_part,
    "20c": _differences,
    "21": say.labels_by_part,
    "22": say.formula,
    "23a": say.full_performance,
    "23b": _heterogeneity,
    "24": _updating,
    "26": limitations,
    "27a": _bad_input,
}

ITEMS = items(ASKED, FILLED)
