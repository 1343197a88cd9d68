"""Comparison with a reference table: swapped, rescaled, changed and missing columns are found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medloop.audit.tables.reference import compare_with_reference, distance
from medloop.case import Finding

NUMBERS = ["age", "area", "texture", "weight"]


def ward(seed: int, rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(55, 9, rows),
            "area": np.exp(rng.normal(6, 0.4, rows)),
            "texture": rng.normal(20, 2, rows),
            "weight": rng.normal(75, 6, rows) / 1000,
            "side": pd.Series(rng.choice(["left", "right"], rows), dtype=object),
        }
    )


def findings(table: pd.DataFrame) -> dict[str, Finding]:
    found = list(compare_with_reference(table, ward(0)))
    return {f"{one.name} {','.join(one.where)}": one for one in found}


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_table_with_the_same_distributions_has_no_findings(seed: int) -> None:
    assert findings(ward(seed, rows=100)) == {}


def test_two_swapped_columns_are_both_named_with_their_partner() -> None:
    found = findings(ward(1).rename(columns={"age": "texture", "texture": "age"}))
    assert set(found) == {"swapped_column age", "swapped_column texture"}
    assert "has the distribution that 'texture' has in the reference" in found["swapped_column age"].what
    assert found["swapped_column age"].severity == "severe"


def test_columns_that_were_all_shifted_by_one_are_named() -> None:
    moved = dict(zip(NUMBERS, [*NUMBERS[1:], NUMBERS[0]], strict=True))
    found = findings(ward(1).rename(columns=moved))
    assert set(found) == {f"swapped_column {name}" for name in NUMBERS}
    assert "has the distribution that 'age' has in the reference" in found["swapped_column area"].what


@pytest.mark.parametrize("factor", [10, 100, 1000, 2.54, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("name", ["age", "texture"])
def test_a_changed_unit_is_named_with_its_factor(factor: float, name: str) -> None:
    table = ward(1)
    found = findings(table.assign(**{name: table[name] * factor}))
    assert set(found) == {f"rescaled_column {name}"}
    assert f"is {factor:g} times as large as in the reference" in found[f"rescaled_column {name}"].what
    assert found[f"rescaled_column {name}"].severity == "severe"


CHANGES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "shifted": (lambda t: t.assign(age=t["age"] + 40), "changed_column age", "warning"),
    "turned": (lambda t: t.assign(texture=-t["texture"]), "changed_column texture", "warning"),
    "gone": (lambda t: t.drop(columns=["age", "side"]), "columns_gone age,side", "severe"),
    "now a text": (lambda t: t.assign(age="old"), "changed_kind age", "severe"),
    "now a number": (lambda t: t.assign(side=1.0), "changed_kind side", "severe"),
}


@pytest.mark.parametrize(("change", "name", "severity"), CHANGES.values(), ids=CHANGES)
def test_a_changed_column_is_named(change: Callable[[pd.DataFrame], pd.DataFrame], name: str, severity: str) -> None:
    found = findings(change(ward(1)))
    assert {key: one.severity for key, one in found.items()} == {name: severity}


def test_new_and_empty_columns_are_no_change() -> None:
    assert findings(ward(1).assign(extra=1.0, age=np.nan)) == {}


def test_the_distance_is_zero_for_equal_and_one_for_disjoint_values() -> None:
    values = np.arange(10.0)
    assert distance(values, values) == 0
    assert distance(values, values + 100) == 1
    assert distance(values, values[:0]) == 1
