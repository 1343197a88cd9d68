"""Columns become subgroups."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.errors import UnknownName
from medloop.evaluate.figures.bands import banded, bands_of
from medloop.evaluate.figures.subgroups import sort_bands


def test_ages_are_cut_into_bands_that_read_well() -> None:
    bands = bands_of([float(age) for age in range(20, 101)])
    assert sort_bands(bands) == ["< 40", "40 to < 60", "60 to < 80", ">= 80"]
    assert (bands[0], bands[20], bands[59], bands[80]) == ("< 40", "40 to < 60", "60 to < 80", ">= 80")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["f", "m", None, ""], ["f", "m", None, None]),
        ([0, 1, 1.0], ["0", "1", "1"]),
        ([True, False], ["True", "False"]),
        ([float("nan"), 2.5], [None, "2.5"]),
        ([1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6], [*["< 3.5"] * 8, *[">= 3.5"] * 3]),
    ],
    ids=["texts", "codes", "truths", "unknown", "ties"],
)
def test_other_values_are_unchanged(values: list[Any], expected: list[str | None]) -> None:
    assert bands_of(values) == expected


def test_a_column_is_named_as_the_user_knows_it_and_a_patient_has_one_band() -> None:
    columns = {"row.sex": ["f", "m", "m"], "site": ["a", "b", "c"]}
    assert banded(columns, ["sex", "site"], [[0], [1, 2]]) == {"sex": ["f", "m"], "site": ["a", "b"]}


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'scanner'"):
        banded({"scanner": ["a"]}, ["scaner"], [[0]])


@pytest.mark.parametrize("name", ["patient_id", "path", "case_id", "label"])
def test_identifiers_are_no_subgroups(name: str) -> None:
    with pytest.raises(UnknownName):
        banded({name: ["a"], "sex": ["f"]}, [name], [[0]])


def test_the_unknown_band_comes_last() -> None:
    assert sort_bands(["b", None, "a"]) == ["a", "b", "unknown"]
