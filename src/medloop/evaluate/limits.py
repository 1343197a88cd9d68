"""What a report must not be taken for, as far as the files tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    sentences += _of_numbers(report)
    if not report["patients_known"]:
        sentences.append("The data do not say which cases are of one patient: no claim about new patients can be made.")
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
    total = sum(counts.values())
    rare = [f"{name} ({n / total:.1%})" for name, n in counts.items() if n / total < RAREST_SHARE]
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
        sentences.append(f"Few cases stand behind {', '.join(small[:6])}: see the notes beside the figures.")
    return sentences


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
