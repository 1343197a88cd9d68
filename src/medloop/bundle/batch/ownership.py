"""Finds the patient of a file, for batch scoring: in a list, in the file name, or in the DICOM header."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloop.errors import RejectedInput, UnknownName
from medloop.prepare.csv_cells import read_cells, unsafe_text
from medloop.storage.names import utf8

# Names of the columns of a list, besides those of the recipe.
FILE, PATIENT = ("file", "path", "image"), ("patient", "patient_id")
HINT = (
    "List them in a CSV file with the columns file and patient, and add --patients FILE; DICOM files may name their "
    "patients themselves."
)


@dataclass(frozen=True, kw_only=True)
class PatientFinder:
    """Finds patients in the list if there is one, else by the recipe's pattern, else in headers (as a keyed hash)."""

    listed: Mapping[str, str] | None = None
    pattern: str | None = None
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def of(cls, meta: Mapping[str, Any], *, patients: Path | None = None, key: bytes | None = None) -> PatientFinder:
        """Return the finder for a bundle, or for a list of patients."""
        data = meta["recipe"].get("data", {})
        listed = read_patients(patients, data) if patients else None
        known = {"listed": listed, "pattern": data.get("patient_pattern")}
        return cls(**known, key=key) if key else cls(**known)

    @property
    def uses_headers(self) -> bool:
        """Whether only the headers can name the patient."""
        return self.listed is None and self.pattern is None

    @property
    def hint(self) -> str:
        """What to do about files without a patient."""
        if self.listed is None:
            return HINT
        return f"Add them to the list of {len(self.listed)} files; its paths are relative to its own folder."

    def missing(self, uris: Sequence[str]) -> dict[str, list[str]]:
        """Return by patient the files of the list that are not among these."""
        given, found = {resolved(uri) for uri in uris}, dict[str, list[str]]()
        for at, patient in (self.listed or {}).items():
            if at not in given:
                found.setdefault(patient, []).append(at)
        return found

    def find(self, uri: str) -> str | None:
        """Return the patient by the list or the file name, or None."""
        if self.listed is not None:
            return self.listed.get(resolved(uri))
        match = re.search(self.pattern, utf8(uri.rpartition("/")[2])) if self.pattern else None
        return None if match is None else match[1] if match.lastindex else match[0]


def read_patients(table: Path, data: Mapping[str, Any]) -> dict[str, str]:
    """Return the patient of each file that a CSV file lists, with paths relative to its own folder."""
    header, cells = read_cells(table)
    file = _column(header, (data.get("image"), *FILE), what="file", table=table)
    patient = _column(header, (data.get("patient"), *PATIENT), what="patient", table=table)
    found: dict[str, str] = {}
    for number, row in enumerate(cells, 2):
        name = row[patient].strip()
        if not row[file] or not name:
            raise RejectedInput(
                f"{table.name}, row {number}: the file or the patient is missing.", "Fill it in, or delete the row."
            )
        if strange := unsafe_text(name):
            raise RejectedInput(
                f"{table.name}, row {number}: the patient is not plain text ({strange}).",
                "Paste values instead of formulas, then export the table again.",
            )
        at = row[file] if "://" in row[file] else resolved(str(table.parent / row[file]))
        if found.setdefault(at, name) != name:
            raise RejectedInput(
                f"{table.name}, row {number}: another row names a different patient for this file.", "Correct the row."
            )
    return found


def _column(header: Sequence[str], names: Sequence[str | None], *, what: str, table: Path) -> int:
    known = [name for name in names if name in header]
    if not known:
        raise UnknownName(f"the column of the {what}", what, header, where=table.name)
    return header.index(str(known[0]))


def resolved(uri: str) -> str:
    """Return one name for a file, however it is given."""
    return uri if "://" in uri else str(Path(uri).resolve())
