"""The values that pass between the feedback store and its users, and the checks of texts that people enter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from medloop.case import Prediction, Row
from medloop.errors import RejectedInput, UserError

Role = Literal["reader", "reviewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Decision = Literal["accepted", "rejected", "second_reader"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
STATES = ("pending", *DECISIONS)
# Control characters except newline, lone surrogates, and marks that change the direction of text.
UNSAFE_CHARACTERS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
ID = re.compile("[0-9a-f]{1,64}")
# The prefix of every secret.
KEY_PREFIX = "ml_"


class FeedbackAway(UserError):
    """Nothing can be stored right now; the same request may be repeated later."""

    http_status = 503
    retry_after = 5


class Conflict(UserError):
    """The request conflicts with what is stored."""

    http_status = 409


class NotFound(UserError):
    """Nothing with this id is stored."""

    http_status = 404


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One image of a patient; `png` holds only pixels."""

    png: bytes | None = None
    sha256: str = ""
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class KeptSlice:
    """One stored image of a patient; `input` is its address."""

    input: str
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A prediction that is about to be returned, with its input; `input_png` holds only pixels.

    A prediction for a patient has slices instead of a single input; the patient is a keyed hash.
    """

    prediction: Prediction
    kind: Literal["image", "table"]
    key: str = ""
    trace_id: str = ""
    input_sha256: str = ""
    input_png: bytes | None = None
    row: Row | None = None
    size: tuple[int, int] | None = None
    patient: str | None = None
    slices: Sequence[Slice] = ()


@dataclass(frozen=True, kw_only=True)
class StoredPrediction:
    """A stored prediction; `input` is the address of its input."""

    prediction: Prediction
    at: str
    kind: str
    key: str
    trace_id: str
    input: str
    row: Row | None
    size: tuple[int, int] | None
    patient: str | None = None
    slices: tuple[KeptSlice, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses of all inputs of the prediction."""
        return tuple(one.input for one in self.slices) or (self.input,)


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key without its secret; `name` is the person or program that holds it."""

    id: str
    name: str
    role: Role
    created: str
    expires: str | None = None
    revoked: str | None = None

    def may(self, role: Role) -> bool:
        """Return whether the key's role includes this one."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def is_valid(self, *, at: str) -> bool:
        """Return whether the key is valid at this time."""
        return self.revoked is None and (self.expires is None or at < self.expires)


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of the store: whether its database is unavailable, and how much waits to be written."""

    away: bool
    queued: int
    spooled_bytes: int
    room_bytes: int


@dataclass(frozen=True, kw_only=True)
class Head:
    """The number and hash of the journal's newest entry, and their signature."""

    seq: int
    hash: str
    signature: str


def check_text(text: str, *, what: str, max_chars: int, lines: bool = False) -> str:
    """Return the text if it is safe to store and to show in a terminal, a page or a log."""
    problem = None
    if not text.strip():
        problem = "is empty"
    elif len(text) > max_chars:
        problem = f"has {len(text):,} characters ({max_chars:,} allowed)"
    elif (misleading := UNSAFE_CHARACTERS.search(text)) or (not lines and "\n" in text):
        problem = f"contains the control character U+{ord(misleading[0]):04X}" if misleading else "has several lines"
    if problem is not None:
        raise RejectedInput(f"{what[0].upper()}{what[1:]} {problem}.", "Shorten it, or type it again.")
    return text


def describe_id(text: str) -> str:
    """Return an id for a message; what is not an id is not repeated, since it could be a patient's name."""
    return f"id {text}" if ID.fullmatch(text) else "this id"
