"""Make a manifest of a table: choose the inputs, the label and the patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from medloop.case import VALUE_PREFIX, Row, Value, case_id
from medloop.data.manifest import complete_manifest, row_sha256, subgroup_columns
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.recipe import DataSection

FREE_TEXT_SHARE = 0.5


@dataclass(frozen=True)
class Sheet:
    """The typed columns of a table."""

    columns: dict[str, list[Value]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def row(self, number: int, names: Sequence[str]) -> Row:
        """Return the values of one row."""
        return {name: self.columns[name][number] for name in names}


def manifest_of(sheet: Sheet, section: DataSection, *, source: str) -> pd.DataFrame:
    """Return one case per row."""
    features = feature_names(sheet, section)
    rows = [row_sha256(sheet.row(number, features)) for number in range(len(sheet))]
    labels = [_label(value, section) for value in sheet.columns[str(section.label)]]
    _check_labels(labels, section)
    patients = _texts(sheet, section.patient)
    cases = {
        "case_id": [case_id(source, key) for key in _keys(sheet, section, rows, labels, patients)],
        "patient_id": patients,
        "group_id": patients,
        "label": [label or "" for label in labels],
        "source": source,
        "file_sha256": rows,
        "quarantined": [None if label else "no label" for label in labels],
    }
    table = {VALUE_PREFIX + name: sheet.columns[name] for name in features}
    subgroups = subgroup_columns({name: _texts(sheet, name) for name in section.columns if name not in features})
    return complete_manifest(pd.DataFrame({**cases, **table, **subgroups}))


def feature_names(sheet: Sheet, section: DataSection) -> list[str]:
    """Return the input columns of the model, in the table's order."""
    lists = (section.features, section.drop, section.categories, section.columns)
    for name in (section.label, section.patient, section.key, *chain.from_iterable(lists)):
        if name is not None and name not in sheet.columns:
            raise UnknownName("column", name, sheet.columns, where="params.yaml, section data")
    aside = {section.label, section.patient, section.key, *section.drop, *set(section.columns) - set(section.features)}
    names = [name for name in sheet.columns if name not in aside and (not section.features or name in section.features)]
    if not names:
        raise UserError("The table has no input columns left.", "Shorten `data.drop`.")
    for name in names:
        _check_not_free_text(name, sheet.columns[name], section)
    return names


def _check_not_free_text(name: str, column: list[Value], section: DataSection) -> None:
    texts = [value for value in column if isinstance(value, str)]
    if name not in section.categories and len(texts) > 20 and len(set(texts)) > FREE_TEXT_SHARE * len(texts):
        raise UserError(
            f"Column '{name}' has {len(set(texts))} different texts in {len(texts)} rows, which may identify patients.",
            "Name it in `data.drop`, or as `data.patient` or `data.key`; if it is a category, in `data.categories`.",
        )


def _label(value: Value, section: DataSection) -> str | None:
    if value is None:
        return None
    text = str(value)
    return section.rename.get(text, text)


def _check_labels(labels: list[str | None], section: DataSection) -> None:
    found = {label for label in labels if label}
    for row, label in enumerate(labels, 2):
        if section.classes and label and label not in section.classes:
            raise UnknownName("class", label, section.classes, where=f"column '{section.label}', row {row}")
    if len(found) < 2:
        raise RejectedInput(
            f"The labels name fewer than two classes: {', '.join(sorted(found)) or 'none'}.",
            "Check `data.label` and `data.rename` in params.yaml.",
        )


def _texts(sheet: Sheet, name: str | None) -> list[str | None]:
    if name is None:
        return [None] * len(sheet)
    return [None if value is None else str(value) for value in sheet.columns[name]]


def _keys(
    sheet: Sheet, section: DataSection, rows: list[str], labels: list[str | None], patients: list[str | None]
) -> list[str]:
    """Return the key column, or hashes of the rows; equal rows are numbered independently of the file's order."""
    if section.key is not None:
        return _given_keys(_texts(sheet, section.key), section.key)
    order = sorted(range(len(rows)), key=lambda number: (rows[number], labels[number] or "", patients[number] or ""))
    seen: Counter[str] = Counter()
    keys = [""] * len(rows)
    for number in order:
        seen[rows[number]] += 1
        keys[number] = f"{rows[number]}#{seen[rows[number]]}"
    return keys


def _given_keys(keys: list[str | None], name: str) -> list[str]:
    first: dict[str, int] = {}
    for row, key in enumerate(keys, 2):
        if key is None or key in first:
            raise RejectedInput(
                f"Column '{name}' (`data.key`) is empty in row {row}."
                if key is None
                else f"Column '{name}' (`data.key`) has the same value in rows {first[key]} and {row}.",
                "Correct the row, choose another `data.key`, or leave it out.",
            )
        first[key] = row
    return list(first)
