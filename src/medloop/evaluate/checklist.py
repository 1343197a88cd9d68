"""Reporting tables: each item of a guideline with what the files say to it, or that its authors must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPEN = "open: for the authors"


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


def items(asked: Sequence[tuple[str, str, str]], fills: Mapping[str, Fill]) -> tuple[Item, ...]:
    """The items of a guideline: number, section and what is asked, with what fills them."""
    return tuple(Item(number=n, section=section, asks=asks, fill=fills.get(n)) for n, section, asks in asked)


def answered(asked: Sequence[Item], report: Mapping[str, Any]) -> list[Answer]:
    """Every item in the guideline's order."""
    return [Answer(item=item, text=item.fill(report) if item.fill else "") for item in asked]


def filled(answers: Sequence[Answer]) -> tuple[int, int, int]:
    """How many are filled, how many a machine could fill, how many there are."""
    return sum(bool(one.text) for one in answers), sum(one.item.fill is not None for one in answers), len(answers)


def checklist_text(title: str, answers: Sequence[Answer]) -> str:
    """The table as Markdown."""
    done, able, total = filled(answers)
    lines = [
        f"# {title}",
        "",
        f"{done} of {total} items are filled from the files ({able} can be); the others are open for the authors.",
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
