"""CLAIM (Tejani et al., 2024): reporting of artificial intelligence in medical imaging; also used for tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.checklists.items import NOT_APPLICABLE, Fill, items
from medloop.evaluate.statements import provenance, selection
from medloop.evaluate.statements import sentences as say
from medloop.evaluate.statements.limits import limitations

Report = Mapping[str, Any]

NO_IMAGES = f"{NOT_APPLICABLE}the cases are rows of a table, not images"


def _for_images(fill: Fill) -> Fill:
    """Return the function for an item about images; for a table the item is not applicable."""
    return lambda report: fill(report) if report["task"] == "images" else NO_IMAGES


def _title(report: Report) -> str:
    kind = "deep network" if report["task"] == "images" else "model for tabular data"
    what = f"classification of {say.kind_of_data(report)} into {say.target(report)}"
    return f"{report['name']}: {what} with a {kind} ({report['model']['name']})"


def _subsets(report: Report) -> str:
    subset = "a fifth of the cases (smoke run)" if report["smoke"] else "all usable cases"
    return say.joined(subset, say.excluded(report))


def _anonymous(report: Report) -> str:
    known = "patients are numbered in the report" if report["patients_known"] else provenance.NO_PATIENTS
    if report["task"] == "images":
        return f"{known}; bundle and report contain no file names and no DICOM tags; images are shown unaltered"
    return (
        f"{known}; cases are identified by a hash; the bundle contains the prepared values of up to 1,000 training "
        "cases, without identifiers"
    )


def _acquisition(report: Report) -> str:
    images = (report.get("study") or {}).get("images")
    if not images:
        return ""
    formats, modes = say.counted(images["formats"]), say.counted(images["modes"])
    return f"formats {formats}; colour modes {modes}; {images['size']} pixels"


def _weights(report: Report) -> str:
    seed, weights = f"seed {report['model']['seed']}", report["model"]["params"].get("weights")
    if report["task"] != "images":
        return f"{NOT_APPLICABLE}no pretrained weights; the model is fitted from scratch ({seed})"
    initial = "random weights" if weights == "none" else f"weights: {weights}"
    return f"{initial}; {seed}; parent version: {report['parent'] or 'none'}" if weights else ""


def _robustness(report: Report) -> str:
    folds = report["cross_validation"].get("roc_auc")
    if not report["folds"]:
        return say.joined("no folds were run", say.subgroups(report))
    parts = provenance.fold_parts(report)
    spread = f"AUC over {report['folds']} folds of the {parts}: {say.spread_text(folds)}" if folds else ""
    return say.joined(spread, say.subgroups(report))


def _figures(report: Report) -> str:
    return ", ".join(report["test"])


def _precision(report: Report) -> str:
    names = ("recall", "specificity", "precision", "f1", "pr_auc", "calibration_slope", "calibration_intercept")
    return say.joined(say.performance(report, names), say.by_class(report), say.subgroups(report))


def _abstract(report: Report) -> str:
    parts = provenance.partition(report)
    return f"{parts}. {say.performance(report)}" if parts else ""


def _goal(report: Report) -> str:
    return f"development of a model that distinguishes {say.target(report)}, and its evaluation on locked cases"


def _level(report: Report) -> str:
    study = report.get("study") or {}
    overlap = (
        f"patients with cases in several partitions: {study['patients_in_several_parts']}"
        if study.get("patients")
        else ""
    )
    return say.joined(provenance.split_level(report), overlap, say.unchecked_copies(report))


def _intended_size(report: Report) -> str:
    tested = f"{report['n_test']} {say.units(report)} tested ({say.counted(report['test_counts'])})"
    return say.joined(provenance.intended_test(report), tested)


def _model(report: Report) -> str:
    return f"{say.model(report)}; {say.formula(report)}"


def _ensemble(report: Report) -> str:
    return f"no ensemble; {provenance.decides_for(report)}"


def _explained(report: Report) -> str:
    worst = report.get("most_wrong")
    if worst is None:
        return ""
    shown = "shown with the worst errors" if worst else "none shown, since no case was misclassified"
    return f"class activation maps, computed in the model's own graph, {shown}; conformal sets of possible classes"


def _internal(report: Report) -> str:
    return f"{report['n_test']} locked {say.units(report)} of the same source, edition {report['edition']}"


def _protocol(report: Report) -> str:
    return f"the recipe at the time of export, in the bundle {report['bundle'][:12]}; {provenance.evaluated(report)}"


def _availability(report: Report) -> str:
    names = f"bundle {report['bundle'][:12]}, data version {report['data_version'][:12]}"
    return f"{names}, git commit {report['git_commit'] or 'none'}; access to be specified by the authors"


ASKED = (
    ("1", "Title", "Identification as a study of AI, with the kind of technique"),
    ("2", "Abstract", "Summary of design, methods, results and conclusions"),
    ("3", "Introduction", "Background, intended use and clinical role"),
    ("4", "Introduction", "Aims and hypotheses"),
    ("5", "Study design", "Prospective or retrospective"),
    ("6", "Study design", "Study goal"),
    ("7", "Data", "Data sources"),
    ("8", "Data", "Inclusion and exclusion criteria"),
    ("9", "Data", "Preprocessing"),
    ("10", "Data", "Selection of data subsets"),
    ("11", "Data", "De-identification"),
    ("12", "Data", "Handling of missing data"),
    ("13", "Data", "Image acquisition protocol"),
    ("14", "Reference standard", "Definition of the reference standard"),
    ("15", "Reference standard", "Rationale for the reference standard"),
    ("16", "Reference standard", "Source of annotations and qualification of annotators"),
    ("17", "Reference standard", "Annotation of the test set"),
    ("18", "Reference standard", "Inter- and intra-rater variability"),
    ("19", "Data partitions", "Assignment of data to partitions"),
    ("20", "Data partitions", "Level at which the partitions are disjoint"),
    ("21", "Testing data", "Intended sample size"),
    ("22", "Model", "Detailed description of the model"),
    ("23", "Model", "Software libraries and versions"),
    ("24", "Model", "Initialisation of parameters"),
    ("25", "Training", "Training approach and hyperparameters"),
    ("26", "Training", "Selection of the final model"),
    ("27", "Training", "Ensembling"),
    ("28", "Evaluation", "Performance metrics"),
    ("29", "Evaluation", "Statistical measures of significance and uncertainty"),
    ("30", "Evaluation", "Robustness or sensitivity analysis"),
    ("31", "Evaluation", "Explainability and interpretability"),
    ("32", "Evaluation", "Evaluation on internal data"),
    ("33", "Evaluation", "Testing on external data"),
    ("34", "Evaluation", "Clinical trial registration"),
    ("35", "Results, data", "Flow of cases, inclusion and exclusion"),
    ("36", "Results, data", "Demographic and clinical characteristics by partition"),
    ("37", "Results, model performance", "Performance metrics with their uncertainty"),
    ("38", "Results, model performance", "Estimates of diagnostic performance and their precision"),
    ("39", "Results, model performance", "Failure analysis"),
    ("40", "Discussion", "Limitations"),
    ("41", "Discussion", "Implications for practice and intended use"),
    ("42", "Other information", "Study protocol and further technical details"),
    ("43", "Other information", "Availability of software, model and data"),
    ("44", "Other information", "Funding and role of the funders"),
)

FILLED: Mapping[str, Fill] = {
    "1": _title,
    "2": _abstract,
    "6": _goal,
    "7": say.sources,
    "8": say.excluded,
    "9": provenance.preparation,
    "10": _subsets,
    "11": _anonymous,
    "12": say.missing,
    "13": _for_images(_acquisition),
    "19": provenance.partition,
    "20": _level,
    "21": _intended_size,
    "22": _model,
    "23": say.software,
    "24": _weights,
    "25": provenance.training,
    "26": selection.selection,
    "27": _ensemble,
    "28": _figures,
    "29": provenance.intervals,
    "30": _robustness,
    "31": _for_images(_explained),
    "32": _internal,
    "35": say.flow,
    "36": say.subgroups_by_part,
    "37": say.full_performance,
    "38": _precision,
    "39": say.wrong,
    "40": limitations,
    "42": _protocol,
    "43": _availability,
}

ITEMS = items(ASKED, FILLED)
