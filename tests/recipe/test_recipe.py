"""The whole recipe: found, read, written back, and no slip of a key goes unnoticed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medloop.errors import UnknownName, UserError
from medloop.recipe import Recipe, load_recipe, validated
from tests.slips import are_one_slip_apart, slips

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
NAMES = st.lists(TEXT, max_size=3, unique=True)
SEED = st.integers(0, 2**32 - 1)


def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


RANGES = st.one_of(
    st.builds(lambda low, width: {"low": low, "high": low + width}, st.floats(-1e6, 1e6), st.floats(1, 1e6)),
    st.builds(lambda low: {"low": low, "high": low * 2, "log": True}, st.floats(1e-6, 1e6)),
    st.builds(lambda choices: {"choices": choices}, st.lists(st.integers() | TEXT | st.none(), min_size=1, max_size=4)),
)
RULES = st.builds(
    lambda metric, limit, value, bound: {"metric": metric, limit: value, "bound": bound},
    TEXT,
    st.sampled_from(["at_least", "at_most"]),
    st.floats(-1e3, 1e3),
    st.sampled_from(["value", "lower", "upper"]),
)
RECIPES = optional(
    name=st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,20}", fullmatch=True),
    data=optional(
        source=TEXT,
        path=st.none() | TEXT,
        sha256=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        label=st.none() | TEXT | st.integers(),
        patient=st.none() | TEXT,
        drop=NAMES,
        missing=st.lists(TEXT | st.just("") | st.integers(), max_size=3),
        rename=st.dictionaries(TEXT | st.integers(), TEXT, max_size=3),
        classes=NAMES,
    ),
    audit=optional(accept=NAMES, leak_auc=st.floats(0.5, 0.9999), reference=st.none() | TEXT),
    split=optional(test=st.floats(0.01, 0.5), val=st.floats(0, 0.2), folds=st.integers(2, 100), seed=SEED),
    model=st.builds(
        lambda name, more: {**more, "name": name},
        TEXT,
        st.dictionaries(
            TEXT,
            st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT | st.none() | st.booleans(),
            max_size=3,
        ),
    ),
    train=optional(seed=SEED),
    tune=optional(trials=st.integers(0, 999), seed=SEED, space=st.dictionaries(TEXT, RANGES, max_size=3)),
    export=optional(threshold=st.sampled_from(["youden", "sensitivity >= 0.95"]), calibrate=st.booleans()),
    evaluate=optional(draws=st.integers(100, 100_000), prevalence=st.none() | st.floats(0.001, 0.999)),
    gate=optional(rules=st.lists(RULES, max_size=3)),
)


def write(folder: Path, content: Any) -> Path:
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def key_places(content: Any, *above: str | int) -> Iterator[tuple[str | int, ...]]:
    """The place of every key that a section declares."""
    for key, value in content.items() if isinstance(content, dict) else []:
        yield (*above, key)
        yield from key_places(value, *above, key)
    for number, value in enumerate(content) if isinstance(content, list) else []:
        yield from key_places(value, *above, number)


FULL = Recipe.model_validate({"tune": {"space": {"C": {"low": 1, "high": 2}}}}).model_dump(mode="json")
FREE = {("model",), ("data", "rename"), ("tune", "space")}
KEYS = [place for place in key_places(FULL) if not any(place[: len(free)] == free and place != free for free in FREE)]
KEYS += [("tune", "space", "C", key) for key in FULL["tune"]["space"]["C"]]


def test_the_keys_tried_are_those_of_every_section() -> None:
    assert {place[0] for place in KEYS} == set(Recipe.model_fields)
    assert ("gate", "rules", 0, "metric") in KEYS


@settings(deadline=None, max_examples=60)
@given(content=RECIPES)
def test_any_valid_recipe_survives_being_written_and_read(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = validated(Recipe, content, where="params.yaml")
    folder = write(tmp_path_factory.getbasetemp(), recipe.model_dump(mode="json"))
    assert load_recipe(folder) == recipe


@settings(deadline=None, max_examples=60)
@given(content=RECIPES)
def test_what_a_person_writes_is_what_is_read(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write(tmp_path_factory.getbasetemp(), content)
    assert load_recipe(folder) == validated(Recipe, content, where="params.yaml")


@settings(deadline=None, max_examples=60)
@given(place=st.sampled_from(KEYS), data=st.data())
def test_one_slip_in_any_key_is_refused_with_the_key_that_was_meant(
    place: tuple[str | int, ...], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = copy.deepcopy(FULL)
    section = content
    for step in place[:-1]:
        section = section[step]
    typed = data.draw(slips(str(place[-1])))
    assume(typed not in section and len(typed) > 1)
    known = sorted(section)
    section[typed] = section.pop(place[-1])
    with pytest.raises(UnknownName) as caught:
        load_recipe(write(tmp_path_factory.getbasetemp(), content))
    assert f"{typed!r} in {'.'.join(['params.yaml', *map(str, place[:-1])])}" in caught.value.problem
    assert caught.value.near in known
    assert are_one_slip_apart(typed, caught.value.near)


def in_braces(value: Any, twice: tuple[str | int, ...], *at: str | int) -> str:
    """The content as YAML in braces, with one key written twice."""
    if isinstance(value, dict):
        lines = [(f"{json.dumps(key)}: {in_braces(one, twice, *at, key)}", (*at, key)) for key, one in value.items()]
        return "{" + ", ".join(f"{line}, {line}" if place == twice else line for line, place in lines) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(in_braces(one, twice, *at, number) for number, one in enumerate(value)) + "]"
    return json.dumps(value)


@pytest.mark.parametrize("place", KEYS, ids=lambda place: ".".join(map(str, place)))
def test_any_duplicate_key_is_refused(place: tuple[str | int, ...], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(in_braces(FULL, ()), encoding="utf-8")
    assert load_recipe(tmp_path).model_dump(mode="json") == FULL
    (tmp_path / "params.yaml").write_text(in_braces(FULL, place), encoding="utf-8")
    with pytest.raises(UserError, match=f"duplicate key '{place[-1]}'"):
        load_recipe(tmp_path)


def test_a_folder_without_a_recipe_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no params\.yaml") as caught:
        load_recipe(tmp_path)
    assert "medloop new" in caught.value.hint
    assert str(tmp_path) not in str(caught.value)


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    assert load_recipe(tmp_path) == Recipe()


def test_changed_values_are_checked_anew() -> None:
    recipe = Recipe().with_values("split", folds=3)
    assert recipe.split.folds == 3
    assert recipe.with_values("split", folds=10) == Recipe()
    with pytest.raises(UserError, match=r"split\.folds"):
        recipe.with_values("split", folds=1)
    with pytest.raises(UnknownName):
        recipe.with_values("split", fold=3)
