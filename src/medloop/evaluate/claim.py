"""CLAIM (Tejani and others, 2024): reporting artificial intelligence in medical imaging; for tables what applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate import provenance, selection
from medloop.evaluate import sentences as say
from medloop.evaluate.checklist import NOT_APPLICABLE, Fill, items
from medloop.evaluate.limits import limitations

Report = Mapping[str, Any]


NO_IMAGES = f"{NOT_APPLICABLE}the cases are rows of a table, not images"


def _of_images(fill: Fill) -> Fill:
    """What fills an item that asks about images; of a table the item says why it does not apply."""
    return lambda report: fill(report) if report["task"] == "images" else NO_IMAGES


def _title(report: Report) -> str:
    kind = "deep network" if report["task"] == "images" else "model learned from a table"
    what = f"classification of {say.kind_of_data(report)} ({say.target(report)})"
    return f"{report['name']}: {what} with a {kind} ({report['model']['name']})"


def _subsets(report: Report) -> str:
    smoke = "a fifth of the cases, as a smoke run" if report["smoke"] else "all usable cases"
    return f"{smoke}; {say.excluded(report)}" if say.excluded(report) else smoke


def _anonymous(report: Report) -> str:
    known = "patients are numbers in the report" if report["patients_known"] else "the data name no patients"
    if report["task"] == "images":
        return f"{known}; bundle and report hold no file names and no DICOM tags, but pictures are shown as they are"
    return (
        f"{known}; cases are named by a hash; the bundle holds the prepared values of up to 1,000 training cases, "
        "without names"
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
        return f"{NOT_APPLICABLE}no pretrained weights, the model is fitted from scratch ({seed})"
    begun = "random weights" if weights == "none" else f"weights: {weights}"
    return f"{begun}; {seed}; parent version: {report['parent'] or 'none'}" if weights else ""


def _robustness(report: Report) -> str:
    folds = report["cross_validation"].get("roc_auc")
    told = (
        f"AUC over {report['folds']} folds of the {provenance.fold_parts(report)}: {say.spread_text(folds)}"
        if folds
        else ""
    )
    return say.joined(told if report["folds"] else "no folds were run", say.subgroups(report))


def _figures(report: Report) -> str:
    return ", ".join(report["test"])


def _performance(report: Report) -> str:
    return "; ".join(text for text in (say.performance(report), say.beside(report)) if text)


def _precision(report: Report) -> str:
    names = ("recall", "specificity", "precision", "f1", "pr_auc", "calibration_slope", "calibration_intercept")
    return "; ".join(
        text for text in (say.performance(report, names), say.by_class(report), say.subgroups(report)) if text
    )


def _by_part(report: Report) -> str:
    parts = (report.get("study") or {}).get("parts", {})
    told = [f"{p}, {c}: {say.counted(b)}" for p, found in parts.items() for c, b in found["subgroups"].items()]
    return "; ".join([say.labels_by_part(report), *told]) if parts else ""


def _abstract(report: Report) -> str:
    parts = provenance.partition(report)
    return f"{parts}. {say.performance(report)}" if parts else ""


def _goal(report: Report) -> str:
    return f"creation of a model that tells apart {say.target(report)}, and its evaluation on locked cases"


def _level(report: Report) -> str:
    study = report.get("study") or {}
    torn = (
        f"patients with cases in several parts: {study['patients_in_several_parts']}" if study.get("patients") else ""
    )
    return say.joined(provenance.split_level(report), torn, say.unchecked_copies(report))


def _intended_size(report: Report) -> str:
    tested = f"{report['n_test']} {say.units(report)} tested ({say.counted(report['test_counts'])})"
    return say.joined(provenance.intended_test(report), tested)


def _model(report: Report) -> str:
    return f"{say.model(report)}; {say.formula(report)}"


def _selection(report: Report) -> str:
    return selection.selection(report)


def _ensemble(report: Report) -> str:
    return f"one model; {provenance.decides_for(report)}"


def _explained(report: Report) -> str:
    worst = report.get("most_wrong")
    if worst is None:
        return ""
    shown = "shown with the most wrong cases" if worst else "none shown here, for no case was misclassified"
    return f"class activation maps, computed in the model's own graph, {shown}; the sets of remaining classes"


def _internal(report: Report) -> str:
    return f"{report['n_test']} locked {say.units(report)} of the same source, edition {report['edition']}"


def _protocol(report: Report) -> str:
    return f"the recipe as it was at the export, in the bundle {report['bundle'][:12]}; {provenance.evaluated(report)}"


def _availability(report: Report) -> str:
    names = f"bundle {report['bundle'][:12]}, data version {report['data_version'][:12]}"
    return f"{names}, git commit {report['git_commit'] or 'none'}; who may have them is for the authors to say"


ASKED = (
    ("1", "Title", "Name it a study of artificial intelligence, and which kind"),
    ("2", "Abstract", "Design, methods, results and conclusions in short"),
    ("3", "Introduction", "Background, intended use and role"),
    ("4", "Introduction", "Aims and hypotheses"),
    ("5", "Design", "Prospective or retrospective"),
    ("6", "Design", "The goal of the study"),
    ("7", "Data", "Sources of the data"),
    ("8", "Data", "Which cases were taken in and which not"),
    ("9", "Data", "How images were prepared"),
    ("10", "Data", "Whether parts of the data were selected"),
    ("11", "Data", "How patients were made unrecognisable"),
    ("12", "Data", "How missing data were dealt with"),
    ("13", "Data", "How the images were acquired"),
    ("14", "Reference standard", "How the truth was determined"),
    ("15", "Reference standard", "Why this reference standard"),
    ("16", "Reference standard", "Who annotated, with what training"),
    ("17", "Reference standard", "How the test set was annotated"),
    ("18", "Reference standard", "How far annotators agreed"),
    ("19", "Partitions", "How cases were assigned to training, tuning and test"),
    ("20", "Partitions", "On which level the parts share nothing"),
    ("21", "Testing data", "The intended number of test cases"),
    ("22", "Model", "The model in detail"),
    ("23", "Model", "Software and versions"),
    ("24", "Model", "How its weights began"),
    ("25", "Training", "How it was trained"),
    ("26", "Training", "How the final model was selected"),
    ("27", "Training", "Whether models were combined"),
    ("28", "Evaluation", "Which figures of performance"),
    ("29", "Evaluation", "How uncertainty and significance were determined"),
    ("30", "Evaluation", "How robust the results are"),
    ("31", "Evaluation", "How the model's reasons are made visible"),
    ("32", "Evaluation", "Evaluation on internal data"),
    ("33", "Evaluation", "Testing on external data"),
    ("34", "Evaluation", "Registration as a clinical trial"),
    ("35", "Results, data", "Cases in and out, as a flow"),
    ("36", "Results, data", "What the patients of each part were like"),
    ("37", "Results, performance", "Performance with its uncertainty"),
    ("38", "Results, performance", "Diagnostic performance and its precision"),
    ("39", "Results, performance", "What went wrong in the wrong cases"),
    ("40", "Discussion", "Limitations"),
    ("41", "Discussion", "What it means for practice"),
    ("42", "Other", "The protocol, or further technical details"),
    ("43", "Other", "Whether software, model and data can be had"),
    ("44", "Other", "Funding and the role of funders"),
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
    "13": _of_images(_acquisition),
    "19": provenance.partition,
    "20": _level,
    "21": _intended_size,
    "22": _model,
    "23": say.software,
    "24": _weights,
    "25": provenance.training,
    "26": _selection,
    "27": _ensemble,
    "28": _figures,
    "29": provenance.intervals,
    "30": _robustness,
    "31": _of_images(_explained),
    "32": _internal,
    "35": say.flow,
    "36": _by_part,
    "37": _performance,
    "38": _precision,
    "39": say.wrong,
    "40": limitations,
    "42": _protocol,
    "43": _availability,
}

ITEMS = items(ASKED, FILLED)
