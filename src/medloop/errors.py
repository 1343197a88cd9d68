"""The one tree of errors that a user can mend; anything else that escapes is a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

EXIT_USER = 2
EXIT_GATE = 3
LONGEST_QUOTE = 80


class UserError(Exception):
    """Says what must hold, what was found and what to do; exit code 2, HTTP 4xx."""

    exit_code = EXIT_USER
    http_status = 400

    def __init__(self, must: str, *, found: str, hint: str) -> None:
        super().__init__(must, found, hint)
        self.must, self.found, self.hint = must, found, hint

    def __str__(self) -> str:
        return f"{self.must}\n  found: {self.found}\n  to do: {self.hint}"


class RejectedInput(UserError):
    """One file, row or request that cannot be used; the others go on."""

    http_status = 422


class RefusedAddress(UserError):
    """An address that the settings do not allow medloop to contact."""

    http_status = 403


class BrokenBundle(UserError):
    """A bundle whose bytes are not the ones that were exported."""

    http_status = 503


class GateRefusal(UserError):
    """The gate said no, so nothing is promoted."""

    exit_code = EXIT_GATE
    http_status = 409


class UnknownName(UserError):
    """A name that is not in one of the dicts or models that medloop knows."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, where: str = "") -> None:
        names = sorted(known)
        text = str(name)[:LONGEST_QUOTE]
        self.near = nearest(text, names)
        found = f"{text!r}" + (f" in {where}" if where else "")
        hint = f"did you mean '{self.near}'? " if self.near else ""
        super().__init__(f"{kind} must be a known name", found=found, hint=f"{hint}known: {', '.join(names)}")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that was most likely meant, if any is like it."""
    folded = {one.casefold(): one for one in known}
    slips = [one for one in folded if _is_one_slip(name.casefold(), one)]
    close = difflib.get_close_matches(name.casefold(), slips or folded, n=1, cutoff=0.0 if slips else 0.5)
    return folded[close[0]] if close else None


def _is_one_slip(first: str, second: str) -> bool:
    """Whether one letter was left out, added or changed, or two neighbours changed places."""
    if min(len(first), len(second)) < 2:
        return first == second
    start = _length_shared(first, second)
    first, second = first[start:], second[start:]
    end = _length_shared(first[::-1], second[::-1])
    first, second = first[: len(first) - end], second[: len(second) - end]
    return max(len(first), len(second)) <= 1 or (len(first) == 2 and first == second[::-1])


def _length_shared(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(first), len(second)))
