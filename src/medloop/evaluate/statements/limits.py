"""The limitations of a report, as far as they follow from its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.statements import sentences as say
from medloop.evaluate.statements.provenance import is_weighted

# The intervals were simulated with 200 balanced cases, and with 2,000 cases of which 20% are positive.
MIN_CLASS_CASES = 100
MIN_CLASS_SHARE = 0.2
MIN_SUBGROUP_CASES = 20


def limitations(report: Mapping[str, Any]) -> str:
    """Return all limitations in one paragraph."""
    return " ".join(limits(report))


def limits(report: Mapping[str, Any]) -> list[str]:
    """Return the limitations as sentences, the most serious first."""
    sentences = []
    if report["smoke"]:
        sentences.append("This is a smoke run on a fifth of the data; it can never be promoted.")
    if report["accepted_findings"]:
        sentences.append(f"Severe audit findings were accepted by name: {', '.join(report['accepted_findings'])}.")
    if (looks := report.get("looks", 0)) > 1:
        sentences.append(
            f"{looks} bundles, including this one, were evaluated on these test cases: the more there are, the "
            "more likely it is that the best result is due to chance."
        )
    sentences += [*_edition(report), *_numbers_of_cases(report), *_accuracy(report), *_calibration(report)]
    if not report["patients_known"]:
        sentences.append("The data do not identify patients: performance on new patients is unknown.")
    elif unnamed := report.get("cases_without_patient"):
        sentences.append(
            f"{unnamed} of the {report['n_test']} test cases have no patient ID and may be of the same patient."
        )
    sentences.append(
        "Tested on held-out cases of the same source; performance elsewhere is unknown (no external validation)."
    )
    sentences += _conformal_sets(report)
    return sentences + _subgroups(report) + _baseline(report)


def _numbers_of_cases(report: Mapping[str, Any]) -> list[str]:
    sentences = []
    counts = {name: n for name, n in report.get("test_groups", report["test_counts"]).items() if n}
    few = [f"{n} {name}" for name, n in counts.items() if n < MIN_CLASS_CASES]
    if few:
        sentences.append(
            f"Few independent test cases: {', '.join(few)}. The intervals were validated by simulation with at least "
            f"{MIN_CLASS_CASES} of each class; with fewer they are approximate."
        )
    total = sum(report["test_counts"].values())
    rare = [f"{name} ({n / total:.1%})" for name, n in report["test_counts"].items() if 0 < n / total < MIN_CLASS_SHARE]
    if rare and len(counts) == 2:
        sentences.append(
            f"Rare class: {', '.join(rare)}. The intervals were validated by simulation with at least "
            f"{MIN_CLASS_SHARE:.0%} of the cases in each class; with rarer classes they are approximate."
        )
    absent = [name for name, n in report["test_counts"].items() if not n]
    if absent:
        sentences.append(f"No test case of {', '.join(absent)}: metrics that need every class are undefined.")
    small = [name for name, figure in report["test"].items() if "only " in (figure.get("note") or "")]
    if small:
        sentences.append(f"Based on few cases: {_first(small)}; see the notes in the table of metrics.")
    return sentences


def _edition(report: Mapping[str, Any]) -> list[str]:
    tested = report.get("facts", {}).get("evaluate", {}).get("edition")
    if tested in (None, report["edition"]):
        return []
    editions = f"The bundle was exported for edition {report['edition']} but tested on edition {tested}"
    return [f"{editions}: it may have been trained on some of these test cases."]


def _accuracy(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence if the accuracy may be no better than that of a constant decision."""
    plain, accuracy = report.get("majority"), report["test"].get("accuracy")
    if not plain or not accuracy or accuracy["lower"] is None or accuracy["lower"] > plain["accuracy"]["value"]:
        return []
    always = f"always deciding {plain['class']} ({plain['accuracy']['value']:.3f})"
    return [f"Accuracy {say.interval_text(accuracy)} is not shown to be above that of {always}."]


def _calibration(report: Mapping[str, Any]) -> list[str]:
    if "calibration_slope" not in report["test"]:
        return []
    found = say.miscalibration(report)
    if found is None:
        return ["Calibration could not be assessed on these test cases."]
    kind, figure = found
    if not kind:
        return []
    is_risk = kind.startswith("risk") and is_weighted(report)
    why = "; classes were weighted in training, which temperature scaling does not correct" if is_risk else ""
    return [f"Poorly calibrated: {kind} ({figure}){why}. Do not interpret the probabilities as risks."]


def _conformal_sets(report: Mapping[str, Any]) -> list[str]:
    conformal, sentences = report.get("conformal_test"), []
    if not conformal:
        return []
    always = [n for n, most in zip(report["classes"], report["conformal"]["quantiles"], strict=True) if most >= 1]
    if always:
        why = "too few such cases were available for calibration"
        sentences.append(f"The set of possible classes always contains {_first(always)}: {why}.")
    promised = conformal["promised"]
    broken = [
        f"{name} ({row['coverage']['value']:.0%} of {row['n']})"
        for name, row in conformal["by_class"].items()
        if row["coverage"]["upper"] < promised
    ]
    if broken:
        less = f"less often than the intended {promised:.0%}"
        sentences.append(f"The sets of possible classes contain the true class {less} for {_first(broken)}.")
    return sentences


def _subgroups(report: Mapping[str, Any]) -> list[str]:
    if "subgroups" not in report:
        return []
    if not report["subgroups"]:
        return ["No subgroups were analysed (evaluate.subgroups): performance by sex, age, scanner or site is unknown."]
    small = [
        f"{column} {band}"
        for column, bands in report["subgroups"].items()
        for band, found in bands.items()
        if min(found["counts"].values()) < MIN_SUBGROUP_CASES
    ]
    return [f"Too few cases to assess performance in {_first(small)}."] if small else []


def _baseline(report: Mapping[str, Any]) -> list[str]:
    baseline = report.get("beside")
    if not baseline or baseline["gain"]["roc_auc"]["lower"] is None or baseline["gain"]["roc_auc"]["lower"] > 0:
        return []
    why = "too few cases were tested, or features that need no training (size, brightness, a marker) separate them"
    return [f"The model is not shown to rank these cases better than the {baseline['name']}: {why}."]


def _first(names: list[str], most: int = 6) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
