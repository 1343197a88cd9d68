"""report.html: the report to read and to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medloop.evaluate.checklists.items import OPEN, Answer, filled_text
from medloop.evaluate.statements import provenance, selection
from medloop.evaluate.statements import sentences as say
from medloop.evaluate.statements.limits import limits
from medloop.evaluate.write import class_view
from medloop.metrics import METRICS
from medloop.page import render
from medloop.times import local_time

CAPTIONS = {
    "confusion_matrix": "Confusion matrix of all test cases: true class (rows) against predicted class (columns). "
    "Bold: classified correctly.",
    "roc": "ROC curve: sensitivity against the false-positive rate (1 - specificity). The closer to the upper left "
    "corner, the better; the dotted line is chance.",
    "reliability": "Calibration: the observed frequency of the class among cases with about the same predicted "
    "probability. On the dotted line the probabilities are well calibrated; below it the risk is overestimated. "
    "Numbers: cases; bars: 95% intervals.",
    "precision_recall": "Precision-recall curve: the share of positive predictions that are correct, against "
    "sensitivity. It depends on the prevalence in the test set.",
    "confusion_classes": "Confusion matrix of the single classes.",
    "decision_curve": "Decision curve: the net benefit of acting on the model, on all cases or on none, by the "
    "probability from which one would act (10%: nine false positives are accepted for one true positive). Higher is "
    "better; where the band overlaps another line, a benefit is not certain.",
    "risk_coverage": "Error rate when only the cases with the highest confidence get a class.",
    "forest": "Each subgroup with its 95% interval; the dotted line marks all cases. Wide intervals are based on few "
    "cases.",
}
PLOTS = ("confusion_matrix", "roc", "reliability", "precision_recall", "confusion_classes")

Report = Mapping[str, Any]
Plots = Mapping[str, bytes]
Rows = list[tuple[str, ...]]


def report_page(
    report: Report,
    plots: Plots,
    *,
    wrong: Sequence[bytes] = (),
    tables: Mapping[str, Sequence[Answer]] | None = None,
) -> str:
    """Return the page for one bundle."""
    positive = ", ".join(report["positive"])
    tested = f"{report['n_test']} locked {say.units(report)} (edition {report['edition']})"
    return render(
        "report.html",
        title=f"Report: {report['name']}",
        lead=f"{report['model']['name']}, tested on {tested}. {f'Positive: {positive}.' if positive else ''}",
        summary=_summary(report),
        limits=limits(report),
        plots=[(plots[name], CAPTIONS[name]) for name in PLOTS if name in plots],
        method=_method(report),
        metrics=_metrics(report),
        class_view=_class_view(report),
        classes=_classes(report),
        class_means=_class_means(report),
        subgroups=_subgroups(report, plots),
        abstentions=_abstentions(report, plots),
        use=_clinical_use(report, plots),
        comparison=_comparison(report),
        errors=_errors(report, wrong),
        provenance=_provenance(report),
        checklists=[_checklist(title, answers) for title, answers in (tables or {}).items()],
    )


def _summary(report: Report) -> list[tuple[str, str]]:
    """Return the most important figures as natural frequencies, each with its meaning."""
    test, cards = report["test"], _predictive_cards(report)
    two = len(report["test_counts"]) == 2
    meanings = {
        "recall": "of 100 positive cases are found (sensitivity",
        "specificity": "of 100 negative cases are recognized as negative (specificity",
    }
    for name, meaning in meanings.items() if two else ():
        if test[name]["value"] is not None:
            cards.append((_per_100(test[name]), f"{meaning}; {test[name]['n']} tested)"))
    if test["roc_auc"]["value"] is not None:
        meaning = "probability that a positive case scores higher than a negative one" if two else "mean of the classes"
        cards.append((_two_digits(test["roc_auc"]), f"AUC: {meaning}; 0.5 is chance"))
    cards.append((_calibration(report), "calibration: whether predicted probabilities match observed frequencies"))
    silent = report["abstained"]
    cards.append(
        (f"{silent['share']:.0%}", f"abstentions: cases without a class ({silent['n']} of {report['n_test']})")
    )
    return cards + class_view.summary_cards(report)


def _predictive_cards(report: Report) -> list[tuple[str, str]]:
    """Return the predictive values, and the accuracy with that of a constant prediction."""
    majority, accuracy = report["majority"], report["test"]["accuracy"]
    always = f"always predicting {majority['class']} is correct in {100 * majority['accuracy']['value']:.1f}"
    return [
        *_predictive_values(report["predictive"], "as in this test set"),
        *_predictive_values(report.get("at_prevalence"), "as set in evaluate.prevalence"),
        (_per_100(accuracy), f"of 100 cases are classified correctly (accuracy); {always}"),
    ]


def _predictive_values(found: Mapping[str, Any] | None, source: str) -> list[tuple[str, str]]:
    """Return PPV and NPV at one prevalence."""
    if not found:
        return []
    prevalence = f"at a prevalence of {found['prevalence']:.1%}, {source}"
    return [
        (_per_100(found[name]), f"of 100 {kind} predictions are correct ({name.upper()}) {prevalence}")
        for name, kind in (("ppv", "positive"), ("npv", "negative"))
    ]


def _per_100(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined"
    value, lower, upper = (100 * figure[name] for name in ("value", "lower", "upper"))
    return f"{value:.0f} [{lower:.0f}, {upper:.0f}]"


def _two_digits(figure: Mapping[str, Any]) -> str:
    value, lower, upper = (figure[name] for name in ("value", "lower", "upper"))
    return f"{value:.2f} [{lower:.2f}, {upper:.2f}]"


def _calibration(report: Report) -> str:
    found = say.miscalibration(report)
    return "not assessable" if found is None else found[0] or "no miscalibration detected"


def _method(report: Report) -> str:
    """Return how the intervals and the cross-validation were computed."""
    if report["folds"]:
        decide = provenance.fold_decision(report)
        folds = f"The {report['folds']} folds lie within the {provenance.fold_parts(report)} and decide {decide}."
    else:
        folds = f"No cross-validation was run; its column shows the {selection.held_out(report)}."
    return (
        "In 95 of 100 such tests, the interval contains the true value. Test metrics use the bundle's threshold. "
        f"{folds} {provenance.intervals(report)}."
    )


def _metrics(report: Report) -> dict[str, Any]:
    rows = []
    for name, figure in report["test"].items():
        folds = report["cross_validation"].get(name)
        spread = say.spread_text(folds) if folds else ""
        note = figure.get("note") or ""
        rows.append((name, say.interval_text(figure), str(figure["n"]), spread, METRICS[name].says, note))
    folds = f"{report['folds']} folds, mean ± SD" if report["folds"] else "held-out cases"
    return {"header": ("metric", "test, 95% interval", "n", folds, "meaning", "note"), "rows": rows}


def _class_view(report: Report) -> dict[str, Any] | None:
    if not class_view.two_views(report):
        return None
    header, rows = class_view.figure_table(report)
    return {"explanation": class_view.explanation(report), "header": header, "rows": rows}


def _classes(report: Report) -> Rows:
    names = ("recall", "specificity", "precision", "roc_auc")
    return [
        (name, str(report["class_counts"][name]), *[say.interval_text(found[one]) for one in names])
        for name, found in (report.get("by_class") or {}).items()
    ]


def _class_means(report: Report) -> Rows:
    if not report.get("by_class") or class_view.two_views(report):
        return []
    return [(name, say.interval_text(found)) for name, found in report["over_classes"].items()]


def _subgroups(report: Report, plots: Plots) -> dict[str, Any] | None:
    if not report.get("subgroups"):
        return None
    names = ("accuracy", "recall", "specificity", "roc_auc")
    if len(report["test_counts"]) != 2:
        names = ("accuracy", "balanced_accuracy", "roc_auc", "brier")
    rows = [
        (
            f"{column} {band}",
            " / ".join(str(n) for n in found["counts"].values()),
            *[say.interval_text(found["figures"][one]) for one in names],
        )
        for column, bands in report["subgroups"].items()
        for band, found in bands.items()
    ]
    return {
        "plots": [(plot, CAPTIONS["forest"]) for name, plot in plots.items() if name.startswith("forest")],
        "header": ("subgroup", f"cases: {' / '.join(report['test_counts'])}", *names),
        "rows": rows,
    }


def _abstentions(report: Report, plots: Plots) -> dict[str, Any]:
    found, rest = report.get("conformal_test"), report["abstained"].get("rest_interval")
    correct = ""
    if rest and rest["n"]:
        share = say.interval_text(rest, share=True)
        correct = f" Of the other cases, {share} are classified correctly{say.as_two_sides(report)}."
    sets: Rows = []
    if found:
        sets = [
            (name, str(row["n"]), say.interval_text(row["coverage"], share=True), say.interval_text(row["set_size"]))
            for name, row in [("all", found["all"]), *found["by_class"].items(), *_pooled(found)]
        ]
    return {
        "summary": say.abstaining(report) + correct,
        "plots": _plot("risk_coverage", plots),
        "sets": sets,
        "promised": f"{found['promised']:.0%}" if found else "",
    }


def _pooled(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the classes of few test cases, counted together."""
    pooled = found["pooled"]
    return [(f"the rare classes together: {say.listed(pooled['classes'])}", pooled)] if pooled else []


def _plot(name: str, plots: Plots) -> list[tuple[bytes, str]]:
    return [(plots[name], CAPTIONS[name])] if name in plots else []


def _clinical_use(report: Report, plots: Plots) -> dict[str, Any] | None:
    net_benefit = [
        (
            f"{row['threshold']:.0%}",
            say.interval_text(row["model"]),
            f"{row['treat_all']:.3f}",
            say.interval_text(row["gain"]),
        )
        for row in report.get("net_benefit") or ()
    ]
    use = {
        "predictive_values": _predictive_sentence(report),
        "plots": _plot("decision_curve", plots),
        "net_benefit": net_benefit,
    }
    return use if any(use.values()) else None


def _predictive_sentence(report: Report) -> str:
    found = report.get("at_prevalence")
    if found:
        ppv, npv = (say.interval_text(found[name], share=True) for name in ("ppv", "npv"))
        return (
            f"At a prevalence of {found['prevalence']:.1%}, a positive prediction is correct in {ppv} of the cases "
            f"(PPV), a negative one in {npv} (NPV)."
        )
    if len(report["test_counts"]) == 2:
        return "The predictive values are those of this test set, because evaluate.prevalence is not set."
    return ""


def _comparison(report: Report) -> dict[str, Any] | None:
    other = report.get("beside")
    if not other:
        return None
    gain = {**other["gain"]["roc_auc"], "value": other["gain"]["roc_auc"]["difference"]}
    return {
        "name": other["name"],
        "summary": f"{other['says']} The model's AUC is higher by {say.interval_text(gain)}.",
        "rows": [
            (name, say.interval_text(report["test"][name]), say.interval_text(figure))
            for name, figure in other["figures"].items()
        ],
    }


def _errors(report: Report, images: Sequence[bytes]) -> dict[str, Any] | None:
    errors = report.get("most_wrong")
    if not errors:
        return None
    rows = [
        (
            row["case_id"],
            row["label"],
            row["decided"],
            f"{row['probability_of_label']:.3f}",
            f"{row['probability_of_decided']:.3f}",
            row["reason"] or "predicted",
        )
        for row in errors
    ]
    captions = [_describe_error(row) for row in errors] if images else []
    return {"rows": rows, "images": list(zip(images, captions, strict=True))}


def _describe_error(row: Mapping[str, Any]) -> str:
    served = f"; the service abstains ({row['reason']})" if row["abstained"] else ""
    return (
        f"{row['case_id']}: {row['label']} (probability {row['probability_of_label']:.1%}), "
        f"predicted {row['decided']} ({row['probability_of_decided']:.1%}){served}"
    )


def _provenance(report: Report) -> Rows:
    statements = [
        ("model", say.model(report)),
        ("data", say.sources(report)),
        ("parts", provenance.partition(report)),
        ("training", provenance.training(report)),
        ("tuning", selection.tuning(report)),
        ("choice of the model", selection.chosen_epoch(report)),
        ("calibration", selection.calibration(report)),
        ("threshold", selection.threshold_choice(report)),
    ]
    return [
        *[(item, text) for item, text in statements if text],
        ("data version", report["data_version"]),
        ("edition", report["edition"]),
        ("bundle", report["bundle"]),
        ("largest difference between ONNX and the trained model", f"{report['parity']:.2g}"),
        ("git commit", report["git_commit"] or "not in a repository"),
        ("created", local_time(report["created"])),
    ]


def _checklist(title: str, answers: Sequence[Answer]) -> dict[str, Any]:
    rows = [(one.item.number, one.item.section, one.item.asks, one.text or OPEN) for one in answers]
    return {"title": title, "summary": filled_text(answers), "rows": rows}
