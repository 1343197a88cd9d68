"""Whose picture a file is, for batch scoring: by a list, by the file's name as in training, or by its DICOM header."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloop.errors import RejectedInput, UnknownName
from medloop.prepare.csv_cells import read_cells, strangeness
from medloop.storage.names import utf8

# The names of the columns of a list, besides those that the recipe gives them.
FILE, PATIENT = ("file", "path", "image"), ("patient", "patient_id")
HINT = (
    "list them in a CSV file with the columns file and patient: --patients FILE; DICOM files may name their patients "
    "themselves"
)


@dataclass(frozen=True, kw_only=True)
class Whose:
    """The first that there is of a list, the recipe's pattern and the headers; a header's patient is a keyed hash."""

    listed: Mapping[str, str] | None = None
    pattern: str | None = None
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def of(cls, meta: Mapping[str, Any], *, patients: Path | None = None, key: bytes | None = None) -> Whose:
        """As the bundle was made, unless a list of patients is given."""
        data = meta["recipe"].get("data", {})
        listed = read_patients(patients, data) if patients else None
        known = {"listed": listed, "pattern": data.get("patient_pattern")}
        return cls(**known, key=key) if key else cls(**known)

    @property
    def asks_headers(self) -> bool:
        """Whether nothing but the headers of the files can tell."""
        return self.listed is None and self.pattern is None

    @property
    def hint(self) -> str:
        """What to do where nothing tells whose a file is."""
        if self.listed is None:
            return HINT
        return f"the list names {len(self.listed)} files, but not these; its paths count from its own folder"

    def missing(self, uris: Sequence[str]) -> dict[str, list[str]]:
        """By patient, the files of the list that are not among these."""
        given, found = {resolved(uri) for uri in uris}, dict[str, list[str]]()
        for at, patient in (self.listed or {}).items():
            if at not in given:
                found.setdefault(patient, []).append(at)
        return found

    def named(self, uri: str) -> str | None:
        """The patient by the list or the name; None where these do not tell."""
        if self.listed is not None:
            return self.listed.get(resolved(uri))
        match = re.search(self.pattern, utf8(uri.rpartition("/")[2])) if self.pattern else None
        return None if match is None else match[1] if match.lastindex else match[0]


def read_patients(table: Path, data: Mapping[str, Any]) -> dict[str, str]:
    """The patient of each file that a CSV file lists; its paths count from its own folder."""
    header, cells = read_cells(table)
    file = _column(header, (data.get("image"), *FILE), what="file", table=table)
    patient = _column(header, (data.get("patient"), *PATIENT), what="patient", table=table)
    found: dict[str, str] = {}
    for number, row in enumerate(cells, 2):
        name = row[patient].strip()
        if not row[file] or not name:
            raise RejectedInput(
                f"{table.name}: every row must name a file and its patient",
                found=f"row {number} lacks one of them",
                hint="fill it in, or leave the row out",
            )
        if strange := strangeness(name):
            raise RejectedInput(
                f"{table.name}: a patient must be plain text",
                found=f"{strange} in row {number}",
                hint="paste values, not formulas, then export again",
            )
        at = row[file] if "://" in row[file] else resolved(str(table.parent / row[file]))
        if found.setdefault(at, name) != name:
            raise RejectedInput(
                f"{table.name}: a file must have one patient",
                found=f"row {number} gives it another one",
                hint="correct the row",
            )
    return found


def _column(header: Sequence[str], names: Sequence[str | None], *, what: str, table: Path) -> int:
    known = [name for name in names if name in header]
    if not known:
        raise UnknownName(f"the column of the {what}", what, header, where=table.name)
    return header.index(str(known[0]))


def resolved(uri: str) -> str:
    """The same for the same file, however it is called."""
    return uri if "://" in uri else str(Path(uri).resolve())
