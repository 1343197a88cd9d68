"""Make a manifest of image files: each is read, hashed and decoded once, and set aside if it cannot be decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from medloop.case import case_id
from medloop.data.manifest import NUMBERS, complete_manifest, subgroup_columns
from medloop.data.places import Places
from medloop.decode.examine import Examined, Examiner, Facts, frame_name
from medloop.decode.parallel import MIN_FILES_FOR_PROCESSES, each_chunk, growing_chunks
from medloop.errors import UserError
from medloop.recipe import DataSection
from medloop.storage import atomic_folder
from medloop.storage.names import stored_paths, utf8

# The usual names of official parts.
GIVEN = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# The type in which pandas stores texts, so that no conversion is needed.
TEXT = pa.large_string()
FACTS = pa.schema([(name, pa.int64() if name in (*NUMBERS, "bits") else TEXT) for name in Facts._fields])


@dataclass(frozen=True, kw_only=True)
class Found:
    """The image files that a source names, before they are opened; a key is the path from the root."""

    keys: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    patients: list[str | None] = field(default_factory=list)
    given: list[str | None] = field(default_factory=list)
    subgroups: dict[str, list[str | None]] = field(default_factory=dict)

    def add(
        self,
        key: str,
        label: str | None,
        *,
        patient: str | None = None,
        given: str | None = None,
        subgroups: Mapping[str, str | None] | None = None,
    ) -> None:
        """Add a file, with its values of `data.columns`."""
        for name, value in (subgroups or {}).items():
            self.subgroups.setdefault(name, []).append(value)
        self.keys.append(key)
        self.labels.append(label)
        self.patients.append(patient)
        self.given.append(given)

    def extend(self, other: Found) -> None:
        """Add all files of the other."""
        for name, values in other.subgroups.items():
            self.subgroups.setdefault(name, []).extend(values)
        self.keys.extend(other.keys)
        self.labels.extend(other.labels)
        self.patients.extend(other.patients)
        self.given.extend(other.given)


def manifest_of_images(
    root: Path,
    pieces: Iterable[Found],
    places: Places,
    section: DataSection,
    *,
    source: str,
    labelled: bool = True,
) -> pd.DataFrame:
    """Return one case per file; the first files are examined while others are still being found."""
    found = Found()
    waiting = _keys_of(pieces, found)
    some = list(islice(waiting, MIN_FILES_FOR_PROCESSES))
    many = len(some) == MIN_FILES_FOR_PROCESSES
    shown = places.display_path(root)
    with (
        _new_folder(places.frames if places.rule.frame == "all" else None) as apart,
        _new_folder(places.kept) as kept,
    ):
        examiner = Examiner(
            root=str(root),
            patient_key=places.patient_key,
            rule=places.rule,
            frames=str(apart) if apart else None,
            derived=places.derived,
            kept=str(kept) if kept else None,
        )
        with each_chunk(examiner, growing_chunks(chain(some, waiting)), are_many=many, what="ingest") as examined:
            if not found.keys:
                raise UserError("No image files in `data.path`.", "Check `data.path` and `data.source`.")
            if labelled:
                check_labels(found.labels, section)
            if apart:
                parts = list(examined)
                return _manifest(*_with_frames(found, parts, shown, places.display_path(places.frames)), parts, source)
            return _manifest(found, [f"{shown}/{key}" for key in found.keys], examined, source)


def _new_folder(path: Path | None) -> AbstractContextManager[Path | None]:
    return atomic_folder(path) if path else nullcontext()


def _with_frames(found: Found, examined: Iterable[list[Examined]], shown: str, frames: str) -> tuple[Found, list[str]]:
    """Return the files with each file of several frames replaced by its frames, and the path of each."""
    counts = [file.frames for part in examined for file in part]
    spread, paths = Found(), list[str]()
    for row, (key, count) in enumerate(zip(found.keys, counts, strict=True)):
        names = [f"{key}/{frame_name(number)}" for number in range(count)]
        paths += [f"{frames}/{name}" for name in names] or [f"{shown}/{key}"]
        for name in names or [key]:
            spread.add(
                name,
                found.labels[row],
                patient=found.patients[row],
                given=found.given[row],
                subgroups={column: values[row] for column, values in found.subgroups.items()},
            )
    return spread, paths


def _manifest(found: Found, paths: list[str], examined: Iterable[list[Examined]], source: str) -> pd.DataFrame:
    keys, labels = found.keys, found.labels
    case_ids = _texts([case_id(source, key) for key in keys])
    # Columns that need no decoding are sorted while the files are still being examined.
    order = pc.sort_indices(case_ids)
    columns = {
        "case_id": case_ids.take(order),
        "path": _texts(stored_paths(paths)).take(order),
        "label": _texts([label or "" for label in labels]).take(order),
        "source": _texts([source] * len(keys)),
        "given": _texts(found.given).take(order),
    }
    unlabelled = _texts([None if label else "no label" for label in labels]).take(order)
    patients = _texts([patient or None for patient in found.patients]).take(order)
    subgroups = {name: pa.array(values).take(order) for name, values in subgroup_columns(found.subgroups).items()}
    facts = pa.Table.from_batches([_batch(part) for part in examined]).take(order)
    columns |= {name: facts[name] for name in facts.column_names}
    columns["patient_id"] = _filled(patients, columns.pop("patient"))
    # It describes the patient in the header only.
    columns["patient_alike"] = pc.if_else(patients.is_null(), columns["patient_alike"], None)
    columns["group_id"] = _filled(columns["patient_id"], columns.pop("study"))
    columns["quarantined"] = _filled(columns["quarantined"], unlabelled)
    columns |= subgroups
    return complete_manifest(pa.table(columns).to_pandas())


def _keys_of(pieces: Iterable[Found], found: Found) -> Iterator[str]:
    """Yield the keys, after adding each piece to `found`."""
    for piece in pieces:
        found.extend(piece)
        yield from piece.keys


def _batch(part: list[Examined]) -> Any:
    """Return the facts of a chunk of files."""
    columns = zip(*(facts for file in part for facts in file.facts), strict=True)
    return pa.record_batch([pa.array(values, one.type) for values, one in zip(columns, FACTS, strict=True)], FACTS)


def _filled(column: Any, others: Any) -> Any:
    """Return the column, filled from the other where it is null."""
    # It is usually all null, and then no copy is needed.
    return others if column.null_count == len(column) else pc.coalesce(column, others)


def _texts(values: list[str] | list[str | None]) -> Any:
    return pa.array(values, TEXT)


def check_labels(labels: Iterable[str | None], section: DataSection) -> None:
    """Refuse labels that are not classes of the recipe, and fewer than two classes."""
    found = {label for label in set(labels) if label}
    strange = sorted(found - set(section.classes)) if section.classes else []
    hint = "See `data.class_pattern`, `data.rename` and `data.classes` in params.yaml."
    if strange:
        known = ", ".join(section.classes)
        raise UserError(f"Labels that are not in `data.classes` ({known}): {', '.join(strange[:5])}.", hint)
    if len(found) < 2:
        names = ", ".join(found) or "none"
        raise UserError(f"The labels name fewer than two classes: {names}.", hint)


def class_of(name: str, section: DataSection) -> str:
    """Return the class that a folder or a cell names, by the recipe's pattern."""
    name = utf8(name)
    if section.class_pattern:
        match = re.match(section.class_pattern, name)
        name = (match[1] if match.lastindex else match[0]) if match else name
    return section.rename.get(name, name)


def patient_of(name: str, section: DataSection) -> str | None:
    """Return the patient in the name of a file, by the recipe's pattern."""
    if not section.patient_pattern:
        return None
    match = re.search(section.patient_pattern, utf8(name))
    if match is None:
        raise UserError(
            "`data.patient_pattern` does not match the name of every file.",
            "Correct the pattern; the group in parentheses is the patient.",
        )
    return match[1] if match.lastindex else match[0]
