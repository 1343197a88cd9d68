"""Errors that a user can fix; any other exception that escapes is a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

EXIT_USER = 2
EXIT_GATE = 3
MAX_QUOTE = 80
# Above so many known names only the most similar ones are listed.
MAX_NAMES, MAX_SUGGESTIONS = 40, 5


class UserError(Exception):
    """A problem that the user can fix: exit code 2, HTTP 4xx.

    `problem` is one sentence that says what is wrong, with the value; `hint` is one that says what to do.
    """

    exit_code = EXIT_USER
    http_status = 400

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem, self.hint = problem, hint

    @property
    def reason(self) -> str:
        """Return the problem without its full stop, for use within a sentence or a list."""
        return self.problem.removesuffix(".")

    def __str__(self) -> str:
        separator = "\n" if "\n" in self.problem else " "
        return f"{self.problem}{separator}{self.hint}".rstrip()


class RejectedInput(UserError):
    """One file, row or request that cannot be used; the others are processed."""

    http_status = 422


class RefusedAddress(UserError):
    """An address that the settings do not allow medloop to contact."""

    http_status = 403


class BrokenBundle(UserError):
    """A bundle whose bytes have changed since it was exported."""

    http_status = 503


class GateRefusal(UserError):
    """The gate refused a model, so nothing is promoted."""

    exit_code = EXIT_GATE
    http_status = 409


class UnknownName(UserError):
    """A name that is not in one of the dicts or models that medloop knows; `kind` says what it should name."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, where: str = "") -> None:
        names, text = sorted(known), str(name)[:MAX_QUOTE]
        self.near = nearest(text, names)
        kind = kind.removeprefix("a ").removeprefix("an ").removeprefix("the ")
        suggestion = f"Did you mean '{self.near}'? " if self.near else ""
        if len(names) > MAX_NAMES:
            close = difflib.get_close_matches(text, names, n=MAX_SUGGESTIONS, cutoff=0)
            listed = f"Similar names: {', '.join(close)}."
        else:
            listed = f"Known names: {', '.join(names)}."
        super().__init__(f"Unknown {kind} {text!r}{f' in {where}' if where else ''}.", f"{suggestion}{listed}")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that was most likely meant, if any is similar."""
    folded = {one.casefold(): one for one in known}
    slips = [one for one in folded if _is_one_slip(name.casefold(), one)]
    close = difflib.get_close_matches(name.casefold(), slips or folded, n=1, cutoff=0.0 if slips else 0.5)
    return folded[close[0]] if close else None


def _is_one_slip(first: str, second: str) -> bool:
    """Return whether one letter was omitted, added or changed, or two neighbours were swapped."""
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
