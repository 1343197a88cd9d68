"""The ledger: one line per look, intact after a kill, and a warning after many evaluations of an edition."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medloop.gate.ledger import BUDGET, bundles_seen, comparison_number, error_allowed, looks, luck_warning, note_look


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def look(path: Path, bundle: str, edition: str = "e") -> None:
    note_look(path, edition=edition, bundle=bundle, who="Jo")


def test_a_look_records_time_edition_bundle_and_person(path: Path) -> None:
    look(path, "b1")
    (found,) = looks(path)
    assert (found.edition, found.bundle, found.who) == ("e", "b1", "Jo")
    assert found.when.endswith("+00:00")


def test_bundles_are_counted_once_and_for_each_edition(path: Path) -> None:
    for bundle, edition in (("b1", "e"), ("b1", "e"), ("b2", "e"), ("b3", "other")):
        look(path, bundle, edition)
    assert (bundles_seen(path, "e"), bundles_seen(path, "other"), bundles_seen(path, "none")) == (2, 1, 0)
    assert len(list(looks(path))) == 4


def test_a_new_ledger_is_empty(path: Path) -> None:
    assert list(looks(path)) == []


@pytest.mark.parametrize("half", [b'{"when": "20', b"\n", b"null\n", b'{"bundle": "x"}\n'])
def test_a_line_cut_off_by_a_kill_swallows_no_look(path: Path, half: bytes) -> None:
    look(path, "b1")
    path.write_bytes(path.read_bytes() + half)
    look(path, "b2")
    assert [one.bundle for one in looks(path)] == ["b1", "b2"]


def test_a_line_is_added_and_none_is_changed(path: Path) -> None:
    look(path, "b1")
    before = path.read_bytes()
    look(path, "b2")
    assert path.read_bytes().startswith(before)


def test_concurrent_looks_are_all_recorded(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: look(path, f"b{number}"), range(40)))
    assert bundles_seen(path, "e") == 40


@pytest.mark.parametrize(("bundles", "warns"), [(0, False), (1, False), (8, False), (9, True), (40, True)])
def test_many_evaluations_of_an_edition_cause_a_warning(bundles: int, warns: bool) -> None:
    warning = luck_warning(bundles)
    assert (warning is not None) is warns
    assert warning is None or warning.startswith(f"{bundles} bundles were evaluated on this edition")


@pytest.mark.parametrize(
    ("bundle", "reference", "number"),
    [
        ("b2", None, 2),
        ("b3", "b1", 2),
        ("b3", "b2", 1),
        ("b3", "elsewhere", 3),
        ("b1", "b2", 3),
        ("b4", "b2", 2),
        ("new", "b1", 4),
    ],
    ids=[
        "no reference",
        "after it",
        "right after it",
        "of another edition",
        "before and after",
        "last",
        "not looked at",
    ],
)
def test_comparisons_are_counted_from_the_reference_version_on(
    path: Path, bundle: str, reference: str | None, number: int
) -> None:
    for name in ("b1", "b2", "b2", "b3", "b4", "b1", "b3"):
        look(path, name)
    look(path, "b9", "other")
    assert comparison_number(path, "e", bundle=bundle, reference=reference) == number


@pytest.mark.parametrize("planned", [1, 3, 30])
def test_all_comparisons_share_the_budget_and_the_planned_ones_half_of_it(planned: int) -> None:
    shares = [error_allowed(number, planned=planned) for number in range(1, 10_000)]
    assert sum(shares[:planned]) == pytest.approx(BUDGET / 2)
    assert sum(shares) < BUDGET
    assert shares == sorted(shares, reverse=True)
