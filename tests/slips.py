"""Slips of the finger: how a key is misspelt, and whether two words are one slip apart."""

from __future__ import annotations

from hypothesis import strategies as st

LETTERS = st.sampled_from("abcdefghijklmnopqrstuvwxyz_")


@st.composite
def slips(draw: st.DrawFn, name: str) -> str:
    """The name with one letter left out, added or changed, or two neighbours that changed places."""
    place = draw(st.integers(0, len(name) - 1))
    before, here, after = name[:place], name[place], name[place + 1 :]
    kind = draw(st.sampled_from(["left out", "added", "changed", "swapped"]))
    if kind == "left out":
        return before + after
    if kind == "added":
        return before + draw(LETTERS) + here + after
    if kind == "changed":
        return before + draw(LETTERS) + after
    return before + after[:1] + here + after[1:]


def are_one_slip_apart(first: str, second: str) -> bool:
    """The same by its definition: try every place."""
    longer, shorter = sorted((first, second), key=len, reverse=True)
    if len(longer) == len(shorter):
        apart = [place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
        swapped = len(apart) == 2 and apart[1] == apart[0] + 1 and first[apart[0] :][:2] == second[apart[0] :][:2][::-1]
        return len(apart) <= 1 or swapped
    return any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))
