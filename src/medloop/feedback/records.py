"""What travels between the feedback store and those who use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from medloop.case import Prediction, Row
from medloop.errors import UserError

Role = Literal["reader", "reviewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Decision = Literal["accepted", "rejected", "second_reader"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
STATES = ("pending", *DECISIONS)
# What the secret of every key begins with.
KEY_PREFIX = "ml_"


class FeedbackAway(UserError):
    """Nothing can be stored right now; the same request may be sent again later."""

    http_status = 503
    retry_after = 5


class Conflict(UserError):
    """What was asked for does not go with what is stored already."""

    http_status = 409


class NotFound(UserError):
    """Nothing of this id is stored."""

    http_status = 404


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One picture of a patient's; `png` holds pixels and nothing else."""

    png: bytes | None = None
    sha256: str = ""
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class KeptSlice:
    """One picture of a patient's as it was stored; `input` is the address of what was kept."""

    input: str
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer that is about to leave, with what it was given for; `input_png` holds pixels and nothing else.

    An answer for a patient has slices in the place of one input; the patient is a keyed hash.
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
    """One answer as it was stored; `input` is the address of what was kept."""

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
        """The addresses of all that the answer was given for."""
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
        """Whether the key's role includes this one."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def is_valid(self, *, at: str) -> bool:
        """Whether the key opens anything at this moment."""
        return self.revoked is None and (self.expires is None or at < self.expires)


@dataclass(frozen=True, kw_only=True)
class Status:
    """How the store does: whether its database is away, and what waits to be written."""

    away: bool
    queued: int
    spooled_bytes: int
    room_bytes: int


@dataclass(frozen=True, kw_only=True)
class Head:
    """The journal's newest entry and its signature."""

    seq: int
    hash: str
    signature: str


def now() -> str:
    """The time, in UTC, such that texts sort as times do."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
