"""Reporting tables: each item of a guideline with what the files say to it, or that its authors must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPEN = "open: for the authors"
NOT_APPLICABLE = "does not apply: "


Fill = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item by its official number, what it asks in our words, and what fills it from a report."""

    number: str
    section: str
    asks: str
    fill: Fill | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An item with its answer; an empty one is open."""

    item: Item
    text: str

    @property
    def applies(self) -> bool:
        """Whether the guideline's item asks something of such a study."""
        return not self.text.startswith(NOT_APPLICABLE)


def items(asked: Sequence[tuple[str, str, str]], fills: Mapping[str, Fill]) -> tuple[Item, ...]:
    """The items of a guideline: number, section and what is asked, with what fills them."""
    return tuple(Item(number=n, section=section, asks=asks, fill=fills.get(n)) for n, section, asks in asked)


def answered(asked: Sequence[Item], report: Mapping[str, Any]) -> list[Answer]:
    """Every item in the guideline's order."""
    return [Answer(item=item, text=item.fill(report) if item.fill else "") for item in asked]


def filled(answers: Sequence[Answer]) -> tuple[int, int, int]:
    """How many are filled, how many a machine could fill, how many there are; of those that apply."""
    asked = [one for one in answers if one.applies]
    return sum(bool(one.text) for one in asked), sum(one.item.fill is not None for one in asked), len(asked)


def filled_text(answers: Sequence[Answer]) -> str:
    """How far the table is filled."""
    done, able, total = filled(answers)
    left_out = len(answers) - total
    apart = f" {left_out} more do not apply, and say why." if left_out else ""
    counts = f"{done} of {total} items are filled from the files ({able} can be)"
    return f"{counts}; the others are open for the authors.{apart}"


def checklist_text(title: str, answers: Sequence[Answer]) -> str:
    """The table as Markdown."""
    lines = [
        f"# {title}",
        "",
        filled_text(answers),
        "Each item is given by its official number and in our own words: the guideline's own text is what counts.",
        "",
        "| item | part | what is asked | what the files say |",
        "|---|---|---|---|",
        *[
            f"| {one.item.number} | {one.item.section} | {one.item.asks} | {_cell(one.text or OPEN)} |"
            for one in answers
        ],
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
