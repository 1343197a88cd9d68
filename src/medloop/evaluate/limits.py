"""What a report must not be taken for, as far as the files tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate import sentences as say
from medloop.evaluate.provenance import is_weighted

# The intervals were tried on 2,000 simulated data sets of 200 balanced cases, and of 2,000 with 20% positives.
FEWEST_OF_A_CLASS = 100
RAREST_SHARE = 0.2
FEWEST_OF_A_BAND = 20


def limitations(report: Mapping[str, Any]) -> str:
    """All of them in one paragraph."""
    return " ".join(limits(report))


def limits(report: Mapping[str, Any]) -> list[str]:
    """In sentences, the gravest first."""
    sentences = []
    if report["smoke"]:
        sentences.append("A smoke run on a fifth of the data, made to try the machinery; it can never be promoted.")
    if report["accepted_findings"]:
        sentences.append(f"Severe audit findings were accepted by name: {', '.join(report['accepted_findings'])}.")
    if (looks := report.get("looks", 0)) > 1:
        sentences.append(
            f"{looks} bundles were scored on these test cases, this one among them: the more there are, the likelier "
            "it is that the best of them was lucky."
        )
    sentences += [*_of_edition(report), *_of_numbers(report), *_of_majority(report), *_of_calibration(report)]
    if not report["patients_known"]:
        sentences.append("The data do not say which cases are of one patient: no claim about new patients can be made.")
    elif unnamed := report.get("cases_without_patient"):
        sentences.append(
            f"{unnamed} of the {report['n_test']} test cases name no patient, and may be of one and the same."
        )
    sentences.append("Measured on held-out cases of the same source; how it does elsewhere is unknown.")
    sentences += _of_sets(report)
    return sentences + _of_subgroups(report) + _of_baseline(report)


def _of_numbers(report: Mapping[str, Any]) -> list[str]:
    sentences = []
    counts = {name: n for name, n in report.get("test_groups", report["test_counts"]).items() if n}
    few = [f"{n} of {name}" for name, n in counts.items() if n < FEWEST_OF_A_CLASS]
    if few:
        sentences.append(
            f"Few independent test cases: {', '.join(few)}. The intervals were checked by simulation with at least "
            f"{FEWEST_OF_A_CLASS} of each class; with fewer they are rough."
        )
    total = sum(report["test_counts"].values())
    rare = [f"{name} ({n / total:.1%})" for name, n in report["test_counts"].items() if 0 < n / total < RAREST_SHARE]
    if rare and len(counts) == 2:
        sentences.append(
            f"A rare class: {', '.join(rare)}. The intervals were checked by simulation with at least "
            f"{RAREST_SHARE:.0%} of the cases in each class; with rarer ones they are rough."
        )
    absent = [name for name, n in report["test_counts"].items() if not n]
    if absent:
        sentences.append(f"No test case of {', '.join(absent)}: what needs both kinds is undefined.")
    small = [name for name, figure in report["test"].items() if "only " in (figure.get("note") or "")]
    if small:
        sentences.append(f"Based on few cases: {_all(small)}; see the notes beside the figures.")
    return sentences


def _of_edition(report: Mapping[str, Any]) -> list[str]:
    tested = report.get("facts", {}).get("evaluate", {}).get("edition")
    if tested in (None, report["edition"]):
        return []
    editions = f"The bundle was exported for edition {report['edition']} and tested on edition {tested}"
    return [f"{editions}: it may have learned from some of these test cases."]


def _of_majority(report: Mapping[str, Any]) -> list[str]:
    """Where accuracy may be worth no more than always giving one answer."""
    plain, accuracy = report.get("majority"), report["test"].get("accuracy")
    if not plain or not accuracy or accuracy["lower"] is None or accuracy["lower"] > plain["accuracy"]["value"]:
        return []
    always = f"always deciding {plain['class']} ({plain['accuracy']['value']:.3f})"
    return [f"Accuracy {say.interval_text(accuracy)} is not shown to be above that of {always}."]


def _of_calibration(report: Mapping[str, Any]) -> list[str]:
    if "calibration_slope" not in report["test"]:
        return []
    found = say.miscalibration(report)
    if found is None:
        return ["Calibration could not be assessed on these test cases."]
    fault, figure = found
    if not fault:
        return []
    is_risk = fault.startswith("risk") and is_weighted(report)
    why = "; classes were weighted in training, which a temperature does not undo" if is_risk else ""
    return [f"Poorly calibrated: {fault} ({figure}){why}. Probabilities should not be taken at their word."]


def _of_sets(report: Mapping[str, Any]) -> list[str]:
    conformal, sentences = report.get("conformal_test"), []
    if not conformal:
        return []
    always = [n for n, most in zip(report["classes"], report["conformal"]["quantiles"], strict=True) if most >= 1]
    if always:
        why = "too few of it among the cases that decisions were fitted on"
        sentences.append(f"A set of possible classes always holds {_all(always)}: {why}.")
    promised = conformal["promised"]
    broken = [
        f"{name} ({row['coverage']['value']:.0%} of {row['n']})"
        for name, row in conformal["by_class"].items()
        if row["coverage"]["upper"] < promised
    ]
    if broken:
        less = f"less often than the promised {promised:.0%}"
        sentences.append(f"The sets of possible classes hold the truth {less} for {_all(broken)}.")
    return sentences


def _of_subgroups(report: Mapping[str, Any]) -> list[str]:
    if "subgroups" not in report:
        return []
    if not report["subgroups"]:
        return [
            "No subgroups were looked at (evaluate.subgroups): how it does by sex, age, scanner or site is unknown."
        ]
    small = [
        f"{column} {band}"
        for column, bands in report["subgroups"].items()
        for band, found in bands.items()
        if min(found["counts"].values()) < FEWEST_OF_A_BAND
    ]
    return [f"Too few cases to tell how it does in {_all(small)}."] if small else []


def _of_baseline(report: Mapping[str, Any]) -> list[str]:
    beside = report.get("beside")
    if not beside or beside["gain"]["roc_auc"]["lower"] is None or beside["gain"]["roc_auc"]["lower"] > 0:
        return []
    why = "too few were tested, or what needs no training (size, brightness, a mark) tells them apart"
    return [f"The model is not shown to rank these cases better than the {beside['name']}: {why}."]


def _all(names: list[str], most: int = 6) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
