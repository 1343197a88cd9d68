"""The data types that all packages share: Case, Prediction, Correction, Verdict."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Literal

Value = float | str | None
Row = dict[str, Value]

# In the project's files the columns of a table carry this prefix, which keeps them apart from medloop's own.
VALUE_PREFIX = "row."


def case_id(source: str, key: str) -> str:
    """Return the permanent id of a case, independent of the order and location of the files."""
    # The key may be a file name, which can contain any bytes.
    return hashlib.sha256(f"{source}\0{key}".encode(errors="surrogateescape")).hexdigest()[:20]


def folded_id(patient_id: str) -> str:
    """Return a form of a patient id that is equal for ids that differ only in case or blanks."""
    return "".join(_folded_words(patient_id))


def same_person(one: str, other: str) -> bool:
    """Return whether two names are equal apart from case and blanks."""
    return _folded_words(one) == _folded_words(other)


def _folded_words(text: str) -> list[str]:
    return unicodedata.normalize("NFKC", text).casefold().split()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image or row to classify, with its origin."""

    case_id: str
    label: str
    source: str
    patient_id: str | None = None
    # The patient if known, else the study or series.
    group_id: str | None = None
    path: str | None = None
    values: Row = field(default_factory=dict)
    quarantined: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One prediction of a bundle, for evaluation and service alike."""

    id: str
    label: str | None
    probabilities: dict[str, float]
    threshold: float | None
    conformal_set: tuple[str, ...]
    abstained: bool
    reason: str | None
    model: str
    version: str
    bundle: str
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A person's statement that a prediction was wrong."""

    id: str
    prediction_id: str
    label: str
    reason: str
    who: str
    when: str
    state: Literal["pending", "accepted", "rejected", "second_reader"] = "pending"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding of the audit."""

    name: str
    severity: Literal["severe", "warning", "note"]
    what: str
    where: tuple[str, ...]
    count: int
    todo: str


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """The outcome of one rule of the gate, with its requirement and the value found."""

    name: str
    needed: str
    found: str
    passed: bool
    n: int | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name}: needed {self.needed}, found {self.found}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision of the gate on one bundle and edition, with its rules and the versions it was compared with."""

    passed: bool
    rules: tuple[RuleOutcome, ...]
    bundle: str
    edition: str
    created: str
    smoke: bool = False
    gate: dict[str, Any] = field(default_factory=dict)
    champion: dict[str, Any] | None = None
    # Only if it is not the champion.
    reference: dict[str, Any] | None = None
    looks: int = 0
    warnings: tuple[str, ...] = ()
