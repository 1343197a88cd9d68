"""What can be wrong with a table: columns that say nothing, too much, the same twice, or something else than before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from medloop.audit.near_row_findings import joined, near_row_findings, near_rows
from medloop.audit.patient_ids import alike_patient_ids
from medloop.audit.reference import compare_with_reference
from medloop.audit.result import Audit, by_severity, small_classes
from medloop.case import Finding
from medloop.data import manifest
from medloop.recipe import AuditSection

__all__ = ["Audit", "audit_table", "separation"]

FEW_CASES = 20
MANY_MISSING = 0.3
# Pairs of equal rows that independent columns would give; real columns go together, and give more.
EXPECTED_PAIRS = 0.1
MANY_LEVELS, MOST_LEVELS = 10, 200
NUMBER_IN_TEXT = r"[<>=~]*\s*[+-]?\d+([.,]\d+)?\s*[^\d\s]+"
UNCHECKED = ("rows copied with more noise", "rows copied with other categories or gaps")


def audit_table(cases: pd.DataFrame, section: AuditSection, *, reference: pd.DataFrame | None = None) -> Audit:
    """Examine the manifest of a table."""
    table = manifest.usable(cases)
    values = manifest.values(table)
    labels = table["label"]
    equal = _equal_rows(table)
    groups = [] if _are_equal_by_chance(values) else equal
    near = near_rows(table, values)
    findings = [
        *_quarantined(cases),
        *_patients(table),
        *small_classes(labels, few=FEW_CASES),
        *alike_patient_ids(table, shown="case_id"),
        *(_row_findings(table, groups) if groups else _chance_findings(equal)),
        *near_row_findings(table, near),
        *_constant_columns(values),
        *_duplicated_columns(values),
        *_missing_values(values),
        *_numbers_as_text(values),
        *_out_of_range(values, section),
        *_identifiers(values),
        *_leaking_columns(values, labels, section),
    ]
    if reference is not None:
        findings += compare_with_reference(values, manifest.values(manifest.usable(reference)))
    return Audit(findings=by_severity(findings), groups=joined([*groups, *near]), unchecked=UNCHECKED)


def numbers(values: pd.DataFrame) -> Iterator[tuple[str, pd.Series[float]]]:
    """The columns of numbers."""
    for name in values.select_dtypes("number"):
        yield str(name), values[name].dropna().astype(float)


def _quarantined(cases: pd.DataFrame) -> Iterator[Finding]:
    reasons = cases["quarantined"].dropna()
    if len(reasons):
        counts = ", ".join(f"{reason}: {n}" for reason, n in reasons.value_counts().items())
        yield Finding(
            name="quarantined",
            severity="warning",
            what=f"{len(reasons)} cases are set aside ({counts}).",
            where=tuple(cases.loc[reasons.index, "case_id"][:20]),
            count=len(reasons),
            todo="Mend them at the source and ingest again; they are used nowhere.",
        )


def _patients(table: pd.DataFrame) -> Iterator[Finding]:
    unknown = int(table["patient_id"].isna().sum())
    if 0 < unknown < len(table):
        yield Finding(
            name="unknown_patients",
            severity="warning",
            where=tuple(table.loc[table["patient_id"].isna(), "case_id"][:20]),
            count=unknown,
            what=f"{unknown} rows name no patient, so each is taken for a patient of its own.",
            todo="Fill in the patient: a row of one that is known would stand on both sides of the split.",
        )
    if unknown == len(table):
        yield Finding(
            name="no_patients",
            severity="note",
            where=(),
            count=0,
            what="No column says which rows are of one patient, so no claim about new patients is possible.",
            todo="If a patient can have several rows, name the column in data.patient.",
        )


def _equal_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return [tuple(group) for _, group in table.groupby("file_sha256")["case_id"] if len(group) > 1]


def _are_equal_by_chance(values: pd.DataFrame) -> bool:
    """Whether the columns hold so few different values that two cases may well share them all."""
    counts = [values[name].value_counts(dropna=False).to_numpy(float) for name in values]
    if any(len(count) > len(values) / 2 for count in counts):
        return False
    pairs = len(values) * (len(values) - 1) / 2
    return bool(pairs * np.prod([(count * (count - 1)).sum() / (2 * pairs) for count in counts]) > EXPECTED_PAIRS)


def _chance_findings(groups: Sequence[tuple[str, ...]]) -> Iterator[Finding]:
    if groups:
        yield Finding(
            name="equal_rows",
            severity="note",
            where=tuple(group[0] for group in groups[:20]),
            what=f"{sum(map(len, groups))} rows equal another in every column, as chance makes them in a table with so "
            "few different values.",
            count=len(groups),
            todo="They are taken for different cases; name data.patient or data.key if some are not.",
        )


def _row_findings(table: pd.DataFrame, groups: Sequence[tuple[str, ...]]) -> Iterator[Finding]:
    label = dict(zip(table["case_id"], table["label"], strict=True))
    contradicting = [group for group in groups if len({label[name] for name in group}) > 1]
    if groups:
        yield Finding(
            name="duplicate_rows",
            severity="warning",
            where=tuple(group[0] for group in groups[:20]),
            what=f"{sum(map(len, groups))} rows in {len(groups)} groups are equal in every column.",
            count=len(groups),
            todo="They stay together in every split; remove the copies if one measurement was entered twice.",
        )
    if contradicting:
        yield Finding(
            name="contradicting_labels",
            severity="severe",
            where=tuple(group[0] for group in contradicting[:20]),
            what=f"{len(contradicting)} groups of equal rows carry different labels.",
            count=len(contradicting),
            todo="One of the labels is wrong: have them read again.",
        )


def _constant_columns(values: pd.DataFrame) -> Iterator[Finding]:
    names = [str(name) for name in values if values[name].nunique(dropna=False) <= 1]
    if names:
        yield Finding(
            name="constant_columns",
            severity="warning",
            what=f"The same value in every row: {', '.join(names)}.",
            where=tuple(names),
            count=len(names),
            todo="Name them in data.drop; they teach nothing.",
        )


def _duplicated_columns(values: pd.DataFrame) -> Iterator[Finding]:
    prints = {
        str(name): hash(tuple(column.astype(object).where(column.notna(), None))) for name, column in values.items()
    }
    times = Counter(prints.values())
    names = [name for name, digest in prints.items() if times[digest] > 1 and values[name].nunique() > 1]
    if names:
        yield Finding(
            name="duplicated_columns",
            severity="warning",
            what=f"Columns that repeat another: {', '.join(names)}.",
            where=tuple(names),
            count=len(names),
            todo="Keep one of each and name the others in data.drop.",
        )


def _missing_values(values: pd.DataFrame) -> Iterator[Finding]:
    for name in [str(name) for name in values if values[name].isna().any()]:
        share = float(values[name].isna().mean())
        yield Finding(
            name="missing_values",
            severity="warning" if share > MANY_MISSING else "note",
            where=(name,),
            what=f"Column '{name}' lacks {share:.1%} of its values.",
            count=int(values[name].isna().sum()),
            todo="Numbers are filled with the training median, categories become '(missing)'.",
        )


def _numbers_as_text(values: pd.DataFrame) -> Iterator[Finding]:
    for name in values.select_dtypes(exclude="number"):
        levels = pd.Series(values[name].dropna().unique(), dtype=str)
        if len(levels) >= MANY_LEVELS and levels.str.fullmatch(NUMBER_IN_TEXT).mean() > 0.9:
            yield Finding(
                name="numbers_as_text",
                severity="warning",
                where=(str(name),),
                count=len(levels),
                what=f"Column '{name}' holds {len(levels)} texts that begin with a number, as '12 mm' does.",
                todo="Write the numbers alone, in one unit; as categories they have no order.",
            )


def _out_of_range(values: pd.DataFrame, section: AuditSection) -> Iterator[Finding]:
    for name, column in numbers(values):
        scale = np.log10(column) if (column > 0).all() else column
        low, high = np.quantile(scale, [0.25, 0.75]) if len(scale) else (0.0, 0.0)
        reach = section.range_sigmas * (high - low) / 1.35
        outside = column[(scale < low - reach) | (scale > high + reach)] if high > low else column[:0]
        if len(outside):
            yield Finding(
                name="out_of_range",
                severity="warning",
                where=(name,),
                count=len(outside),
                what=f"Column '{name}' has {len(outside)} values far from the rest, between {outside.min():g} and "
                f"{outside.max():g}; the median is {column.median():g}.",
                todo="Check the unit (a factor of ten?) and the decimal point in those rows.",
            )


def _identifiers(values: pd.DataFrame) -> Iterator[Finding]:
    for name, column in numbers(values):
        if len(column) > FEW_CASES and column.is_unique and (column % 1 == 0).all():
            yield Finding(
                name="identifier",
                severity="warning",
                where=(name,),
                count=len(column),
                what=f"Column '{name}' holds a different whole number in every row, as an identifier does.",
                todo="If it is one, name it in data.key, data.patient or data.drop.",
            )


def _leaking_columns(values: pd.DataFrame, labels: pd.Series[str], section: AuditSection) -> Iterator[Finding]:
    for name in values:
        auc = max(separation(values[name], labels), _separation_of_levels(values[name], labels))
        if auc >= section.leak_auc and values[name].nunique(dropna=False) > 1:
            yield Finding(
                name="leaking_column",
                severity="severe",
                where=(str(name),),
                count=1,
                what=f"Column '{name}' alone gives the label away (AUC {auc:.3f}).",
                todo="If it is known only after the diagnosis, name it in data.drop; if it is honest, accept "
                "'leaking_column' in audit.accept.",
            )


def separation(column: pd.Series[Any], labels: pd.Series[str]) -> float:
    """How well one column alone tells the classes apart: the least over their pairs of the best AUC."""
    scores = [column.isna().astype(float)]
    if pd.api.types.is_numeric_dtype(column):
        scores.append(column.fillna(column.median() if column.notna().any() else 0.0))
    elif _has_few_levels(column):
        scores += [(column == level).astype(float) for level in column.dropna().unique()]
    return min((max(_auc(truth, one[truth.index]) for one in scores) for truth in _pairs(labels)), default=0.5)


def _separation_of_levels(column: pd.Series[Any], labels: pd.Series[str]) -> float:
    """The same for a column of codes, several of which may stand for one class."""
    if not _has_few_levels(column):
        return 0.5
    return min(
        (_auc(truth, truth.groupby(column[truth.index], dropna=False).transform("mean")) for truth in _pairs(labels)),
        default=0.5,
    )


def _has_few_levels(column: pd.Series[Any]) -> bool:
    return bool(column.nunique(dropna=False) <= min(len(column) / 5, MOST_LEVELS))


def _pairs(labels: pd.Series[str]) -> Iterator[pd.Series[float]]:
    """For each pair of classes, which of their cases are of the first."""
    for first, second in combinations(sorted(set(labels)), 2):
        both = labels[labels.isin([first, second])]
        yield (both == first).astype(float)


def _auc(truth: pd.Series[float], scores: pd.Series[float]) -> float:
    from sklearn.metrics import roc_auc_score

    auc = float(roc_auc_score(truth, scores))
    return max(auc, 1 - auc)
