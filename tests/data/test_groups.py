"""Groups of linked cases are connected components."""

from __future__ import annotations

import pandas as pd

from medloop.data.groups import component_numbers, connected_groups, equal_groups


def test_places_with_the_same_key_are_a_group() -> None:
    assert equal_groups(pd.Series(["a", "b", "a", None, None, "c"], dtype=object)) == ((0, 2),)


def test_links_that_share_a_place_are_one_component() -> None:
    numbers = component_numbers([(0, 1), (1, 2), (4, 5)], count=6)
    assert numbers[0] == numbers[1] == numbers[2]
    assert numbers[4] == numbers[5]
    assert len(set(numbers.tolist())) == 3
    assert connected_groups([(0, 1), (1, 2), (4, 5)], count=6) == ((0, 1, 2), (4, 5))


def test_without_links_each_place_is_alone() -> None:
    assert connected_groups([(), (3,)], count=4) == ()
    assert len(set(component_numbers([], count=4).tolist())) == 4
