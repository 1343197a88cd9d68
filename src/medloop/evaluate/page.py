"""report.html: the same figures, to read and to print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop import page
from medloop.evaluate.card import interval_text, limits, spread_text
from medloop.metrics import METRICS

CAPTIONS = {
    "confusion_matrix": "Every test case: what it is (rows) and what was decided (columns).",
    "roc": "Sensitivity against false alarms at every threshold; the dotted line is chance.",
    "precision_recall": "How many alarms are right, against how many of the sick are found.",
    "reliability": "How many cases given a probability had the class; on the dotted line it can be taken at its word.",
}


def report_page(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """A page for one bundle."""
    positive = ", ".join(report["positive"])
    about = f"Positive: {positive}. " if positive else ""
    lead = (
        f"{report['model']['name']}, tested on {report['n_test']} locked cases (edition {report['edition']}). {about}"
    )
    return page.page(
        f"Report: {report['name']}",
        lead=lead,
        body=[
            page.section("What it scored", _explanation(report), _figures(report)),
            page.section(
                "Pictures", page.figures(*[page.figure(png, caption=CAPTIONS[name]) for name, png in pictures.items()])
            ),
            page.section("When it says nothing", page.paragraph(_abstention(report["abstained"], report["n_test"]))),
            page.section("Limits", *[page.paragraph(sentence) for sentence in limits(report)]),
            page.section("Where it comes from", page.table(("what", "which"), _origin(report))),
        ],
    )


def _explanation(report: Mapping[str, Any]) -> str:
    return page.paragraph(
        "The interval holds the true figure in 95 of 100 such tests. Test figures use the bundle's threshold; "
        f"the {report['recipe']['split']['folds']} folds lie within the training cases and decide at 0.5.",
        soft=True,
    )


def _figures(report: Mapping[str, Any]) -> str:
    rows = []
    for name, figure in report["test"].items():
        folds = report["cross_validation"][name]
        rows.append(
            (
                name,
                interval_text(figure),
                str(figure["n"]),
                spread_text(folds),
                METRICS[name].says,
                figure.get("note") or "",
            )
        )
    return page.table(("figure", "test, 95% interval", "n", "folds, mean ± std", "what it says", "note"), rows)


def _abstention(abstained: Mapping[str, Any], n: int) -> str:
    rest = abstained["accuracy_of_the_rest"]
    accuracy = "" if rest is None else f" On the others it is right in {rest:.1%}."
    return (
        f"{abstained['n']} of the {n} test cases ({abstained['share']:.1%}) would get no class, because they are "
        f"too close to call or far from anything seen in training.{accuracy}"
    )


def _origin(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("model", f"{report['model']['name']} {report['model']['params']}"),
        ("threshold", f"{report['threshold']['value']} by {report['threshold']['rule']}"),
        ("training cases", str(report["n_train"])),
        ("data version", report["data_version"]),
        ("edition", report["edition"]),
        ("bundle", report["bundle"]),
        ("largest difference between ONNX and scikit-learn", f"{report['parity']:.2g}"),
        ("git commit", report["git_commit"] or "not in a repository"),
        ("made", report["created"]),
    ]
