"""The result of an audit, and the findings that tables and images share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from medloop.case import Finding, folded_id
from medloop.recipe import AuditSection
from medloop.wording import plural

RANK = {"severe": 0, "warning": 1, "note": 2}
# How many cases a finding lists.
MAX_LISTED = 20
MIN_CLASS_CASES = 20


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The findings, and the groups of cases that must stay on one side of every split."""

    findings: tuple[Finding, ...]
    groups: tuple[tuple[str, ...], ...]
    # The kinds of copies that the audit does not look for; the reports list them.
    unchecked: tuple[str, ...] = ()

    def open_severe(self, section: AuditSection) -> list[Finding]:
        """Return the severe findings that the recipe does not accept by name."""
        return [one for one in self.findings if one.severity == "severe" and one.name not in section.accept]


def sort_by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings with the most severe first, otherwise in their order."""
    return tuple(sorted(findings, key=lambda one: RANK[one.severity]))


def count_reasons(quarantined: pd.Series[str]) -> str:
    """Return why cases were set aside, each reason with its number of cases."""
    return ", ".join(f"{reason}: {count}" for reason, count in quarantined.value_counts().items())


def small_classes(labels: pd.Series[str]) -> Iterator[Finding]:
    """Yield a finding for each class with too few cases for precise estimates."""
    counts = labels.value_counts()
    for name, count in counts[counts < MIN_CLASS_CASES].items():
        yield Finding(
            name="small_class",
            severity="warning",
            what=f"Class '{name}' has only {plural(int(count), 'case')}.",
            where=(str(name),),
            count=int(count),
            todo="Expect wide intervals. Collect more cases, or merge the class with another.",
        )


def similar_patient_ids(table: pd.DataFrame, *, listed: str) -> Iterator[Finding]:
    """Yield a finding where patient ids differ only in case or whitespace; the column `listed` names the cases."""
    known = table[table["patient_id"].notna()]
    folded = known["patient_id"].map({one: folded_id(one) for one in known["patient_id"].unique()})
    if "patient_alike" in known:
        # Patient ids from DICOM headers are stored as hashes only; this column was computed from the ids themselves.
        folded = known["patient_alike"].fillna(folded)
    spellings = known["patient_id"].groupby(folded).transform("nunique")
    doubtful = known[spellings > 1]
    if len(doubtful):
        ids, patients = doubtful["patient_id"].nunique(), folded[doubtful.index].nunique()
        yield Finding(
            name="patient_ids_alike",
            severity="warning",
            what=f"{ids} patient ids differ from another only in upper and lower case or in spaces ({len(doubtful)} "
            f"cases). If they belong to {plural(patients, 'patient')}, cases of one patient may end up on both sides "
            "of a split.",
            where=tuple(map(str, doubtful[listed][:MAX_LISTED])),
            count=int(ids),
            todo="Spell each patient's id in one way at the source and ingest again; medloop never merges patient ids "
            "and treats each spelling as a separate patient.",
        )
