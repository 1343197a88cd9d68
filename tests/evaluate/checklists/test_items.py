"""The reporting checklists: official numbers, filled from the report or open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.evaluate.checklists.claim import ITEMS as CLAIM
from medloop.evaluate.checklists.items import OPEN, Item, checklist_text, fill_checklist, filled
from medloop.evaluate.checklists.tripod import ITEMS as TRIPOD
from medloop.storage import read_json

# TRIPOD+AI has 27 items, some of them in parts; CLAIM of 2024 has 44.
TRIPOD_PARTS = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}
TRIPOD_NUMBERS = [
    f"{number}{part}" for number in range(1, 28) for part in "abcdefg"[: TRIPOD_PARTS.get(number, 0)] or [""]
]


def test_the_items_carry_the_official_numbers() -> None:
    assert [item.number for item in TRIPOD] == TRIPOD_NUMBERS
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 45)]


@pytest.mark.parametrize("asked", [TRIPOD, CLAIM], ids=["tripod", "claim"])
@pytest.mark.parametrize("project", ["finished", "finished_pictures"])
def test_four_in_five_of_the_items_that_can_be_filled_are_filled(
    asked: tuple[Item, ...], project: str, request: pytest.FixtureRequest
) -> None:
    report = read_json(request.getfixturevalue(project) / "work" / "report" / "report.json")
    answers = fill_checklist(asked, report)
    done, able, total = filled(answers)
    assert (done >= 0.8 * able, total) == (True, sum(one.applies for one in answers))
    assert len(asked) - total == (3 if asked is CLAIM and project == "finished" else 0)
    assert all(one.text == "" for one in answers if one.item.fill is None)


def test_items_that_only_the_authors_can_complete_stay_open(report: dict[str, Any]) -> None:
    texts = {one.item.number: one.text for one in fill_checklist(TRIPOD, report)}
    assert not any(texts[number] for number in ("3a", "6b", "8b", "17", "18a", "18b", "19", "25"))


def test_the_figures_are_those_of_the_report(report: dict[str, Any], folder: Path) -> None:
    auc = report["test"]["roc_auc"]
    text = (folder / "tripod_ai.md").read_text("utf-8")
    assert f"roc_auc {auc['value']:.3f} [{auc['lower']:.3f}, {auc['upper']:.3f}]" in text
    assert f"train: {report['study']['parts']['train']['cases']} cases" in text
    assert f"roc_auc {auc['value']:.3f} [{auc['lower']:.3f}" in (folder / "claim.md").read_text("utf-8")


def test_without_facts_about_the_data_more_items_are_open(report: dict[str, Any]) -> None:
    alone = filled(fill_checklist(TRIPOD, {**report, "study": None}))
    assert alone[0] < filled(fill_checklist(TRIPOD, report))[0]


def test_a_cell_cannot_break_the_table() -> None:
    item = Item(number="1", section="Title", asks="x", fill=lambda _: "a | b\nc")
    text = checklist_text("T", fill_checklist((item, Item(number="2", section="S", asks="y")), {}))
    assert "| 1 | Title | x | a \\| b c |" in text
    assert f"| 2 | S | y | {OPEN} |" in text
    assert "1 of 2 items are completed from the report (1 can be)" in text
