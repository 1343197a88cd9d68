"""From image files to a manifest: each is read, hashed and decoded once; what cannot be decoded is set aside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from medloop.case import case_id
from medloop.data.manifest import NUMBERS, completed, further_columns
from medloop.data.places import Places
from medloop.errors import UserError
from medloop.prepare.examine import Examined, Examiner, Facts, frame_name
from medloop.prepare.parallel import WORTH_PROCESSES, each_chunk, growing
from medloop.recipe import DataSection
from medloop.storage import atomic_folder
from medloop.storage.names import stored_paths, utf8

# The names that people give to official parts.
GIVEN = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# As pandas keeps texts, so that it need not make them anew.
TEXT = pa.large_string()
FACTS = pa.schema([(name, pa.int64() if name in (*NUMBERS, "bits") else TEXT) for name in Facts._fields])


@dataclass(frozen=True, kw_only=True)
class Found:
    """The image files that a source names, before they are opened, one list a column; a key is a path from the root."""

    keys: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    patients: list[str | None] = field(default_factory=list)
    given: list[str | None] = field(default_factory=list)
    beside: dict[str, list[str | None]] = field(default_factory=dict)

    def add(
        self,
        key: str,
        label: str | None,
        *,
        patient: str | None = None,
        given: str | None = None,
        beside: Mapping[str, str | None] | None = None,
    ) -> None:
        """Name one more file, with what is kept beside it for subgroups."""
        for name, value in (beside or {}).items():
            self.beside.setdefault(name, []).append(value)
        self.keys.append(key)
        self.labels.append(label)
        self.patients.append(patient)
        self.given.append(given)

    def extend(self, other: Found) -> None:
        """Name all that the other does."""
        for name, values in other.beside.items():
            self.beside.setdefault(name, []).extend(values)
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
    """One case a file below the root; the first files are examined while others are still looked for."""
    found = Found()
    waiting = _keys_of(pieces, found)
    some = list(islice(waiting, WORTH_PROCESSES))
    many = len(some) == WORTH_PROCESSES
    shown = places.shown(root)
    with atomic_folder(places.frames) if places.rule.frame == "all" else nullcontext() as apart:
        frames = str(apart) if apart else None
        examiner = Examiner(root=str(root), patient_key=places.patient_key, rule=places.rule, frames=frames)
        with each_chunk(examiner, growing(chain(some, waiting)), are_many=many, what="ingest") as examined:
            if not found.keys:
                raise UserError(
                    "data.path must hold images", found="no files that could be", hint="check data.path and data.source"
                )
            if labelled:
                check_labels(found.labels, section)
            if apart:
                parts = list(examined)
                return _manifest(*_with_frames(found, parts, shown, places.shown(places.frames)), parts, source)
            # Now that all files are known, and other processes are at work.
            return _manifest(found, [f"{shown}/{key}" for key in found.keys], examined, source)


def _with_frames(found: Found, examined: Iterable[Examined], shown: str, frames: str) -> tuple[Found, list[str]]:
    """The same with each frame that was written out in the place of its file, and the path of each."""
    counts = list(chain.from_iterable(part.frames for part in examined))
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
                beside={column: values[row] for column, values in found.beside.items()},
            )
    return spread, paths


def _manifest(found: Found, paths: list[str], examined: Iterable[Examined], source: str) -> pd.DataFrame:
    keys, labels = found.keys, found.labels
    case_ids = _texts([case_id(source, key) for key in keys])
    # All that is known before the facts is brought into the order of the manifest while they are found.
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
    beside = {name: pa.array(values).take(order) for name, values in further_columns(found.beside).items()}
    facts = pa.Table.from_batches([_batch(part) for part in examined]).take(order)
    columns |= {name: facts[name] for name in facts.column_names}
    columns["patient_id"] = _filled(patients, columns.pop("patient"))
    # It speaks of the header's patient only.
    columns["patient_alike"] = pc.if_else(patients.is_null(), columns["patient_alike"], None)
    columns["group_id"] = _filled(columns["patient_id"], columns.pop("study"))
    columns["quarantined"] = _filled(columns["quarantined"], unlabelled)
    columns |= beside
    return completed(pa.table(columns).to_pandas())


def _keys_of(pieces: Iterable[Found], found: Found) -> Iterator[str]:
    """The keys, once all that is said of them was added to what was found."""
    for piece in pieces:
        found.extend(piece)
        yield from piece.keys


def _batch(part: Examined) -> Any:
    """The facts of a chunk of files; columns that are absent hold nothing."""
    columns = {name: _cut(row, part.rows) for name, row in part.hashes.items()}
    columns |= {name: pa.array(values, FACTS.field(name).type) for name, values in part.lists.items()}
    missing = {one.name: pa.nulls(part.rows, one.type) for one in FACTS if one.name not in columns}
    return pa.record_batch({**columns, **missing}, FACTS)


def _cut(row: str, texts: int) -> Any:
    """A row of texts of one length as a column of them."""
    ends = np.arange(texts + 1, dtype=np.int64) * (len(row) // texts)
    return pa.LargeStringArray.from_buffers(texts, pa.py_buffer(ends), pa.py_buffer(row.encode()))


def _filled(column: Any, others: Any) -> Any:
    """The column, with the others where it says nothing."""
    # Most often it says nothing at all, and then no copy is needed.
    return others if column.null_count == len(column) else pc.coalesce(column, others)


def _texts(values: list[str] | list[str | None]) -> Any:
    return pa.array(values, TEXT)


def check_labels(labels: Iterable[str | None], section: DataSection) -> None:
    """The labels must be classes of the recipe, at least two of them."""
    found = {label for label in set(labels) if label}
    strange = sorted(found - set(section.classes)) if section.classes else []
    if strange or len(found) < 2:
        known = f"labels must be among data.classes: {', '.join(section.classes)}"
        raise UserError(
            known if strange else "labels must name at least two classes",
            found=", ".join(strange[:5] or sorted(found)) or "none",
            hint="see data.class_pattern, data.rename and data.classes in params.yaml",
        )


def class_of(name: str, section: DataSection) -> str:
    """The class that a folder or a cell names, by the recipe's rule."""
    name = utf8(name)
    if section.class_pattern:
        match = re.match(section.class_pattern, name)
        name = (match[1] if match.lastindex else match[0]) if match else name
    return section.rename.get(name, name)


def patient_of(name: str, section: DataSection) -> str | None:
    """The patient that a file's name tells, by the recipe's pattern."""
    if not section.patient_pattern:
        return None
    match = re.search(section.patient_pattern, utf8(name))
    if match is None:
        raise UserError(
            "data.patient_pattern must fit every file's name",
            found="a name that it does not fit",
            hint="mend the pattern; what it puts in parentheses is the patient",
        )
    return match[1] if match.lastindex else match[0]
