"""report.html: the same figures, to read and to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medloop import page
from medloop.evaluate import class_view, provenance, selection
from medloop.evaluate import sentences as say
from medloop.evaluate.checklist import OPEN, Answer, filled_text
from medloop.evaluate.limits import limits
from medloop.metrics import METRICS
from medloop.times import local_time

CAPTIONS = {
    "confusion_matrix": "Every test case: what it is (rows), what was decided (columns). Bold: classified correctly.",
    "confusion_classes": "The same, class by class.",
    "roc": "Of the positive cases, how many are found (up) at the price of how many false alarms (right). "
    "The further to the upper left, the better; the dotted line is chance.",
    "precision_recall": "How many alarms are right (up) against how many cases are found (right). "
    "It depends on how many of the test cases are positive.",
    "reliability": "Of the cases given about this probability, how many had the class. On the dotted line the "
    "probabilities can be taken at their word; below it the risk is overstated. Numbers: cases; bars: 95% intervals.",
    "decision_curve": "Whether acting on the model does more good than acting on all cases or on none, by the "
    "probability from which one would act (10%: one accepts nine false alarms for one found). Higher is better; "
    "where the band touches another line, nothing is gained for certain.",
    "risk_coverage": "How many classes are wrong if the model only answers the cases that it is surest of.",
    "forest": "Each subgroup with its 95% interval; the dotted line is all cases. Wide lines rest on few cases.",
}
Report = Mapping[str, Any]
Pictures = Mapping[str, bytes]


def report_page(
    report: Report,
    pictures: Pictures,
    *,
    wrong: Sequence[bytes] = (),
    tables: Mapping[str, Sequence[Answer]] | None = None,
) -> str:
    """A page for one bundle."""
    positive = ", ".join(report["positive"])
    about = f"Positive: {positive}. " if positive else ""
    tested = f"{report['n_test']} locked {say.units(report)} (edition {report['edition']})"
    lead = f"{report['model']['name']}, tested on {tested}. {about}"
    parts = [
        page.section("Summary", page.cards(_summary(report)), page.warnings(limits(report))),
        page.section("Pictures", _pictures(pictures)),
        page.section("Every figure", _explanation(report), _figures(report), *class_view.page_parts(report)),
        _class_section(report),
        _subgroup_section(report, pictures),
        page.section("Abstentions", *_abstention(report, pictures)),
        _use_section(report, pictures),
        _beside_section(report),
        _wrong_section(report, wrong),
        page.section("Provenance", page.table(("what", "which"), _origin(report))),
        *[_reporting(title, answers) for title, answers in (tables or {}).items()],
    ]
    return page.page(f"Report: {report['name']}", lead=lead, body=[part for part in parts if part])


def _summary(report: Report) -> list[tuple[str, str]]:
    """The figures that decide, as a doctor would say them."""
    test, cards = report["test"], _in_these_data(report)
    two = len(report["test_counts"]) == 2
    told = {
        "recall": "sensitivity: of 100 positive cases, how many are found",
        "specificity": "specificity: of 100 negative cases, how many raise no alarm",
    }
    for name, words in told.items() if two else ():
        if test[name]["value"] is not None:
            cards.append((_of_100(test[name]), f"{words}; {test[name]['n']} tested"))
    if test["roc_auc"]["value"] is not None:
        chance = "AUC: how often a positive case scores above another" if two else "AUC: mean over the classes"
        cards.append((_in_two_digits(test["roc_auc"]), f"{chance}; 0.5 is chance"))
    cards.append((_calibrated(report), "calibration: whether a probability can be taken at its word"))
    silent = report["abstained"]
    cards.append((f"{silent['share']:.0%}", f"of the cases get no class ({silent['n']} of {report['n_test']})"))
    return cards + class_view.summary_cards(report)


def _in_these_data(report: Report) -> list[tuple[str, str]]:
    """How often decisions are right among cases such as these, and the accuracy beside that of one constant answer."""
    plain, accuracy = report["majority"], report["test"]["accuracy"]
    always = f"always deciding {plain['class']} has {100 * plain['accuracy']['value']:.1f}"
    return [
        *_predictive_cards(report["predictive"], "as in this test set"),
        *_predictive_cards(report.get("at_prevalence"), "as evaluate.prevalence says"),
        (_of_100(accuracy), f"accuracy: of 100 cases, how many are classified correctly; {always}"),
    ]


def _predictive_cards(found: Mapping[str, Any] | None, which: str) -> list[tuple[str, str]]:
    """The predictive values at one share of positive cases."""
    if not found:
        return []
    where = f"where {found['prevalence']:.1%} are positive, {which}"
    return [
        (_of_100(found[name]), f"{name.upper()}: of 100 {kind} decisions, how many are right {where}")
        for name, kind in (("ppv", "positive"), ("npv", "negative"))
    ]


def _of_100(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined"
    value, lower, upper = (100 * figure[name] for name in ("value", "lower", "upper"))
    return f"{value:.0f} [{lower:.0f}, {upper:.0f}]"


def _in_two_digits(figure: Mapping[str, Any]) -> str:
    value, lower, upper = (figure[name] for name in ("value", "lower", "upper"))
    return f"{value:.2f} [{lower:.2f}, {upper:.2f}]"


def _calibrated(report: Report) -> str:
    found = say.miscalibration(report)
    return "not assessable" if found is None else found[0] or "no miscalibration detected"


def _pictures(pictures: Pictures) -> str:
    shown = ("confusion_matrix", "roc", "reliability", "precision_recall", "confusion_classes")
    return page.figures(*[page.figure(pictures[name], caption=CAPTIONS[name]) for name in shown if name in pictures])


def _explanation(report: Report) -> str:
    if report["folds"]:
        decide = provenance.fold_decision(report)
        folds = f"The {report['folds']} folds lie within the {provenance.fold_parts(report)} and decide {decide}."
    else:
        folds = f"No folds were run: beside the test stand the {selection.held_out(report)}."
    return page.paragraph(
        "The interval holds the true figure in 95 of 100 such tests. Test figures use the bundle's threshold. "
        f"{folds} {provenance.intervals(report)}.",
        soft=True,
    )


def _figures(report: Report) -> str:
    rows = []
    for name, figure in report["test"].items():
        folds = report["cross_validation"].get(name)
        spread = say.spread_text(folds) if folds else ""
        note = figure.get("note") or ""
        rows.append((name, say.interval_text(figure), str(figure["n"]), spread, METRICS[name].says, note))
    folds = f"{report['folds']} folds, mean ± SD" if report["folds"] else "held-out cases"
    return page.table(("figure", "test, 95% interval", "n", folds, "what it says", "note"), rows)


def _class_section(report: Report) -> str:
    if not report.get("by_class"):
        return ""
    names = ("recall", "specificity", "precision", "roc_auc")
    counts = report["class_counts"]
    rows = [
        (name, str(counts[name]), *[say.interval_text(found[one]) for one in names])
        for name, found in report["by_class"].items()
    ]
    return page.section(
        "Class by class",
        page.paragraph("Each class against all others, decided as the service would.", soft=True),
        page.table(("class", "n", "sensitivity", "specificity", "precision", "AUC"), rows),
        "" if class_view.two_views(report) else _means(report),
    )


def _means(report: Report) -> str:
    means = [(name, say.interval_text(found)) for name, found in report["over_classes"].items()]
    told = page.paragraph("Over all classes (means where a figure is of one class):", soft=True)
    return told + page.table(("figure", "test, 95% interval"), means)


def _subgroup_section(report: Report, pictures: Pictures) -> str:
    if not report.get("subgroups"):
        return ""
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
    shown = [name for name in pictures if name.startswith("forest")]
    return page.section(
        "Subgroups",
        page.figures(*[page.figure(pictures[name], caption=CAPTIONS["forest"]) for name in shown]),
        page.table(("subgroup", f"cases: {' / '.join(report['test_counts'])}", *names), rows),
    )


def _abstention(report: Report, pictures: Pictures) -> list[str]:
    said, found = report["abstained"], report.get("conformal_test")
    rest = said.get("rest_interval")
    right = (
        f" Where it gives one, {say.interval_text(rest, share=True)} are classified correctly"
        f"{say.as_two_sides(report)}."
        if rest and rest["n"]
        else ""
    )
    parts = [page.paragraph(say.abstaining(report) + right)]
    if "risk_coverage" in pictures:
        parts.append(page.figures(page.figure(pictures["risk_coverage"], caption=CAPTIONS["risk_coverage"])))
    if found:
        rows = [
            (name, str(row["n"]), say.interval_text(row["coverage"], share=True), say.interval_text(row["set_size"]))
            for name, row in [("all", found["all"]), *found["by_class"].items(), *_pooled(found)]
        ]
        parts += [
            page.paragraph(
                f"Every answer carries the classes that remain possible; the set was made to hold the true class in "
                f"at least {found['promised']:.0%} of the cases of each class.",
            ),
            page.table(("true class", "n", "holds the truth", "classes in the set"), rows),
        ]
    return parts


def _pooled(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Classes of few test cases, counted together."""
    pooled = found["pooled"]
    return [(f"the rare ones together: {say.listed(pooled['classes'])}", pooled)] if pooled else []


def _use_section(report: Report, pictures: Pictures) -> str:
    parts, found = [], report.get("at_prevalence")
    if found:
        ppv, npv = (say.interval_text(found[name], share=True) for name in ("ppv", "npv"))
        parts.append(
            page.paragraph(
                f"Where {found['prevalence']:.1%} of the cases are positive, a positive decision is right in {ppv} "
                f"of the cases, a negative one in {npv}."
            )
        )
    elif len(report["test_counts"]) == 2:
        text = "No prevalence is given (evaluate.prevalence), so the predictive values are those of this test set."
        parts.append(page.paragraph(text, soft=True))
    if "decision_curve" in pictures:
        parts.append(page.figures(page.figure(pictures["decision_curve"], caption=CAPTIONS["decision_curve"])))
    if report.get("net_benefit"):
        rows = [
            (
                f"{row['threshold']:.0%}",
                say.interval_text(row["model"]),
                f"{row['treat_all']:.3f}",
                say.interval_text(row["gain"]),
            )
            for row in report["net_benefit"]
        ]
        header = ("acting from", "net benefit of the model", "of treating all", "gain over the better of all and none")
        parts.append(page.table(header, rows))
    return page.section("In use", *parts) if parts else ""


def _beside_section(report: Report) -> str:
    other = report.get("beside")
    if not other:
        return ""
    rows = [
        (name, say.interval_text(report["test"][name]), say.interval_text(figure))
        for name, figure in other["figures"].items()
    ]
    gain = {**other["gain"]["roc_auc"], "value": other["gain"]["roc_auc"]["difference"]}
    return page.section(
        f"Beside it: {other['name']}",
        page.paragraph(f"{other['says']} The model's AUC is larger by {say.interval_text(gain)}."),
        page.table(("figure", "this model", other["name"]), rows),
    )


def _wrong_section(report: Report, wrong: Sequence[bytes]) -> str:
    rows = report.get("most_wrong")
    if not rows:
        return ""
    if wrong:
        shown = [page.figure(one, caption=_mistake(row)) for row, one in zip(rows, wrong, strict=True)]
        text = "Left the picture as the model saw it, right with what spoke for its decision (bright)."
        return page.section("The most wrong cases", page.paragraph(text, soft=True), page.figures(*shown))
    header = ("case", "is", "was decided", "probability of what it is", "of what was decided", "in service")
    cells = [
        (
            row["case_id"],
            row["label"],
            row["decided"],
            f"{row['probability_of_label']:.3f}",
            f"{row['probability_of_decided']:.3f}",
            row["reason"] or "given",
        )
        for row in rows
    ]
    return page.section("The most wrong cases", page.table(header, cells))


def _mistake(row: Mapping[str, Any]) -> str:
    served = f"; the service gives no class ({row['reason']})" if row["abstained"] else ""
    return (
        f"{row['case_id']}: is {row['label']} (given {row['probability_of_label']:.1%}), "
        f"was decided {row['decided']} ({row['probability_of_decided']:.1%}){served}"
    )


def _origin(report: Report) -> list[tuple[str, str]]:
    made = [
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
        *[(what, text) for what, text in made if text],
        ("data version", report["data_version"]),
        ("edition", report["edition"]),
        ("bundle", report["bundle"]),
        ("largest difference between ONNX and the trained model", f"{report['parity']:.2g}"),
        ("git commit", report["git_commit"] or "not in a repository"),
        ("made", local_time(report["created"])),
    ]


def _reporting(title: str, answers: Sequence[Answer]) -> str:
    rows = [(one.item.number, one.item.section, one.item.asks, one.text or OPEN) for one in answers]
    return page.section(
        title,
        page.paragraph(f"{filled_text(answers)} Each item is given in our own words.", soft=True),
        page.table(("item", "part", "what is asked", "what the files say"), rows),
    )
