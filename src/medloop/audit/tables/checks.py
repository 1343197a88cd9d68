"""The checks of a table: constant, leaking, duplicated and changed columns, equal rows, missing values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from medloop.audit.findings import (
    MAX_LISTED,
    Audit,
    count_reasons,
    similar_patient_ids,
    small_classes,
    sort_by_severity,
)
from medloop.audit.tables.near_rows import near_row_findings, near_row_groups
from medloop.audit.tables.reference import compare_with_reference
from medloop.case import Finding
from medloop.data import manifest
from medloop.data.groups import connected_groups
from medloop.recipe import AuditSection
from medloop.wording import plural

MIN_IDENTIFIERS = 20
MANY_MISSING = 0.3
# The expected number of pairs of equal rows if the columns were independent; real columns depend on each other.
EXPECTED_PAIRS = 0.1
MIN_TEXTS, MAX_LEVELS = 10, 200
NUMBER_IN_TEXT = r"[<>=~]*\s*[+-]?\d+([.,]\d+)?\s*[^\d\s]+"
UNCHECKED = ("rows copied with more noise", "rows copied with other categories or other missing values")


def audit_table(cases: pd.DataFrame, section: AuditSection, *, reference: pd.DataFrame | None = None) -> Audit:
    """Examine the manifest of a table."""
    table = manifest.usable(cases)
    values = manifest.values(table)
    labels = table["label"]
    equal = _equal_rows(table)
    groups = [] if _are_equal_by_chance(values) else equal
    near = near_row_groups(table, values)
    findings = [
        *_quarantined(cases),
        *_patients(table),
        *small_classes(labels),
        *similar_patient_ids(table, listed="case_id"),
        *(_equal_row_findings(table, groups) if groups else _chance_findings(equal)),
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
    return Audit(findings=sort_by_severity(findings), groups=_merge_groups([*groups, *near]), unchecked=UNCHECKED)


def _merge_groups(groups: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Merge the groups that share a case."""
    ids = sorted({name for group in groups for name in group})
    place = {name: number for number, name in enumerate(ids)}
    links = [tuple(place[name] for name in group) for group in groups]
    return tuple(tuple(ids[number] for number in group) for group in connected_groups(links, count=len(ids)))


def _number_columns(values: pd.DataFrame) -> Iterator[tuple[str, pd.Series[float]]]:
    """Yield the numeric columns without their missing values."""
    for name in values.select_dtypes("number"):
        yield str(name), values[name].dropna().astype(float)


def _quarantined(cases: pd.DataFrame) -> Iterator[Finding]:
    reasons = cases["quarantined"].dropna()
    if len(reasons):
        yield Finding(
            name="quarantined",
            severity="warning",
            what=f"Set aside: {len(reasons)} of {len(cases)} cases ({count_reasons(reasons)}).",
            where=tuple(cases.loc[reasons.index, "case_id"][:MAX_LISTED]),
            count=len(reasons),
            todo="Fix them at the source and ingest again; until then they are not used.",
        )


def _patients(table: pd.DataFrame) -> Iterator[Finding]:
    unknown = int(table["patient_id"].isna().sum())
    if 0 < unknown < len(table):
        yield Finding(
            name="unknown_patients",
            severity="warning",
            where=tuple(table.loc[table["patient_id"].isna(), "case_id"][:MAX_LISTED]),
            count=unknown,
            what=f"Patient unknown for {plural(unknown, 'row')}; each counts as a separate patient.",
            todo="Fill in the patient; otherwise rows of one patient may end up on both sides of the split.",
        )
    if unknown == len(table):
        yield Finding(
            name="no_patients",
            severity="note",
            where=(),
            count=0,
            what="No column identifies the patient, so the results cannot be generalized to new patients.",
            todo="If a patient can have several rows, name the patient column in data.patient.",
        )


def _equal_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return [tuple(group) for _, group in table.groupby("file_sha256")["case_id"] if len(group) > 1]


def _are_equal_by_chance(values: pd.DataFrame) -> bool:
    """Return whether the columns have so few distinct values that two cases may well share them all."""
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
            where=tuple(group[0] for group in groups[:MAX_LISTED]),
            what=f"{sum(map(len, groups))} rows equal another in every column, which happens by chance in a table with "
            "so few distinct values.",
            count=len(groups),
            todo="They are treated as different cases; if some are copies, set data.patient or data.key.",
        )


def _equal_row_findings(table: pd.DataFrame, groups: Sequence[tuple[str, ...]]) -> Iterator[Finding]:
    label = dict(zip(table["case_id"], table["label"], strict=True))
    contradicting = [group for group in groups if len({label[name] for name in group}) > 1]
    if groups:
        yield Finding(
            name="duplicate_rows",
            severity="warning",
            where=tuple(group[0] for group in groups[:MAX_LISTED]),
            what=f"{sum(map(len, groups))} rows in {plural(len(groups), 'group')} are equal in every column.",
            count=len(groups),
            todo="They stay together in every split. Remove the copies if a measurement was entered twice.",
        )
    if contradicting:
        yield Finding(
            name="contradicting_labels",
            severity="severe",
            where=tuple(group[0] for group in contradicting[:MAX_LISTED]),
            what=f"Different labels for {plural(len(contradicting), 'group')} of equal rows.",
            count=len(contradicting),
            todo="One of the labels is wrong: have them reviewed.",
        )


def _constant_columns(values: pd.DataFrame) -> Iterator[Finding]:
    names = [str(name) for name in values if values[name].nunique(dropna=False) <= 1]
    if names:
        yield Finding(
            name="constant_columns",
            severity="warning",
            what=f"Columns with the same value in every row: {', '.join(names)}.",
            where=tuple(names),
            count=len(names),
            todo="List them in data.drop; they carry no information.",
        )


def _duplicated_columns(values: pd.DataFrame) -> Iterator[Finding]:
    hashes = {
        str(name): hash(tuple(column.astype(object).where(column.notna(), None))) for name, column in values.items()
    }
    counts = Counter(hashes.values())
    names = [name for name, digest in hashes.items() if counts[digest] > 1 and values[name].nunique() > 1]
    if names:
        yield Finding(
            name="duplicated_columns",
            severity="warning",
            what=f"Columns with the same values as another column: {', '.join(names)}.",
            where=tuple(names),
            count=len(names),
            todo="Keep one of each and list the others in data.drop.",
        )


def _missing_values(values: pd.DataFrame) -> Iterator[Finding]:
    for name in [str(name) for name in values if values[name].isna().any()]:
        share = float(values[name].isna().mean())
        yield Finding(
            name="missing_values",
            severity="warning" if share > MANY_MISSING else "note",
            where=(name,),
            what=f"{share:.1%} of the values of column '{name}' are missing.",
            count=int(values[name].isna().sum()),
            todo="Missing numbers are replaced by the training median, missing categories by '(missing)'.",
        )


def _numbers_as_text(values: pd.DataFrame) -> Iterator[Finding]:
    for name in values.select_dtypes(exclude="number"):
        levels = pd.Series(values[name].dropna().unique(), dtype=str)
        if len(levels) >= MIN_TEXTS and levels.str.fullmatch(NUMBER_IN_TEXT).mean() > 0.9:
            yield Finding(
                name="numbers_as_text",
                severity="warning",
                where=(str(name),),
                count=len(levels),
                what=f"Column '{name}' has {len(levels)} distinct texts that start with a number, such as '12 mm'.",
                todo="Store the numbers without their unit, all in the same unit; as categories they have no order.",
            )


def _out_of_range(values: pd.DataFrame, section: AuditSection) -> Iterator[Finding]:
    for name, column in _number_columns(values):
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
                what=f"Column '{name}' has {plural(len(outside), 'outlier')} between {outside.min():g} and "
                f"{outside.max():g}; the median is {column.median():g}.",
                todo="Check the unit and the decimal point in these rows.",
            )


def _identifiers(values: pd.DataFrame) -> Iterator[Finding]:
    for name, column in _number_columns(values):
        if len(column) > MIN_IDENTIFIERS and column.is_unique and (column % 1 == 0).all():
            yield Finding(
                name="identifier",
                severity="warning",
                where=(name,),
                count=len(column),
                what=f"Column '{name}' has a different integer in every row, as an identifier has.",
                todo="If it is an identifier, name it in data.key, data.patient or data.drop.",
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
                what=f"Column '{name}' alone predicts the label (AUC {auc:.3f}).",
                todo="If it is known only after the diagnosis, list it in data.drop. If it is a legitimate predictor, "
                "add 'leaking_column' to audit.accept.",
            )


def separation(column: pd.Series[Any], labels: pd.Series[str]) -> float:
    """Return how well one column alone separates the classes: the best AUC of the pair that is hardest to separate."""
    scores = [column.isna().astype(float)]
    if pd.api.types.is_numeric_dtype(column):
        scores.append(column.fillna(column.median() if column.notna().any() else 0.0))
    elif _has_few_levels(column):
        scores += [(column == level).astype(float) for level in column.dropna().unique()]
    return min((max(_auc(truth, one[truth.index]) for one in scores) for truth in _class_pairs(labels)), default=0.5)


def _separation_of_levels(column: pd.Series[Any], labels: pd.Series[str]) -> float:
    """Return the same for a column of codes, where several codes may mean one class."""
    if not _has_few_levels(column):
        return 0.5
    return min(
        (
            _auc(truth, truth.groupby(column[truth.index], dropna=False).transform("mean"))
            for truth in _class_pairs(labels)
        ),
        default=0.5,
    )


def _has_few_levels(column: pd.Series[Any]) -> bool:
    return bool(column.nunique(dropna=False) <= min(len(column) / 5, MAX_LEVELS))


def _class_pairs(labels: pd.Series[str]) -> Iterator[pd.Series[float]]:
    """Yield for each pair of classes which of their cases belong to the first."""
    for first, second in combinations(sorted(set(labels)), 2):
        both = labels[labels.isin([first, second])]
        yield (both == first).astype(float)


def _auc(truth: pd.Series[float], scores: pd.Series[float]) -> float:
    from sklearn.metrics import roc_auc_score

    auc = float(roc_auc_score(truth, scores))
    return max(auc, 1 - auc)
