"""Reporting checklists: the items of a guideline, filled from a report where possible and open otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPEN = "to be completed by the authors"
NOT_APPLICABLE = "not applicable: "

Fill = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item with its official number, its content in our words and the function that fills it from a report."""

    number: str
    section: str
    asks: str
    fill: Fill | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An item with its text; an empty one is open."""

    item: Item
    text: str

    @property
    def applies(self) -> bool:
        """Whether the item is applicable to this kind of study."""
        return not self.text.startswith(NOT_APPLICABLE)


def items(asked: Sequence[tuple[str, str, str]], fills: Mapping[str, Fill]) -> tuple[Item, ...]:
    """Return the items of a guideline from their number, section and content, with the functions that fill them."""
    return tuple(Item(number=n, section=section, asks=asks, fill=fills.get(n)) for n, section, asks in asked)


def fill_checklist(asked: Sequence[Item], report: Mapping[str, Any]) -> list[Answer]:
    """Return every item with its text, in the guideline's order."""
    return [Answer(item=item, text=item.fill(report) if item.fill else "") for item in asked]


def filled(answers: Sequence[Answer]) -> tuple[int, int, int]:
    """Return how many applicable items are filled, how many can be, and how many there are."""
    asked = [one for one in answers if one.applies]
    return sum(bool(one.text) for one in asked), sum(one.item.fill is not None for one in asked), len(asked)


def filled_text(answers: Sequence[Answer]) -> str:
    """Return how many items of the checklist are filled."""
    done, able, total = filled(answers)
    left_out = len(answers) - total
    rest = f" {left_out} more are not applicable." if left_out else ""
    counts = f"{done} of {total} items are completed from the report ({able} can be)"
    return f"{counts}; the others are to be completed by the authors.{rest}"


def checklist_text(title: str, answers: Sequence[Answer]) -> str:
    """Return the checklist in Markdown."""
    lines = [
        f"# {title}",
        "",
        filled_text(answers),
        "The items have their official numbers but are paraphrased: the text of the guideline is authoritative.",
        "",
        "| item | section | content | reported |",
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
