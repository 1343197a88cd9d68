"""YAML is read strictly: each key once, each key known, nothing run, and nothing quoted that is secret."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from medloop.errors import UnknownName, UserError
from medloop.recipe import Strict, read_yaml, validated


class Leaf(Strict):
    size: int = 1
    name: str = "x"


class Tree(Strict):
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] = Field(default_factory=dict)
    maybe: Leaf | None = None


def read(text: str | bytes, folder: Path, *, quote: bool = True) -> object:
    path = folder / "params.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yaml(path, quote=quote)


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    assert read("", tmp_path) == {}
    assert read("# nothing yet\n", tmp_path) == {}


UNREADABLE = {
    "an open bracket": ("a: [1", "line 1"),
    "a tab": ("a:\n\tb: 1", "line 2"),
    "two documents": ("a: 1\n---\nb: 2", "line 2"),
    "a repeated key": ("a: 1\nb: 2\na: 3", "line 3"),
    "a repeated key within": ("s:\n  - x: {k: 1, k: 2}", "line 2"),
    "keys that are equal numbers": ("s: {1: a, 1.0: b}", "duplicate key"),
    "a key that is a list": ("s: {[1]: 2}", "unhashable"),
    "a NUL": ("a: \0", "#x0000"),
    "another encoding": ("a: ä".encode("latin-1"), "utf-8"),
    "a day that does not exist": ("a: 2024-02-31", "day"),
    "a number too long": ("a: " + "9" * 5000, "digits"),
    "brackets without end": ("[" * 1200, "brackets"),
    "a call": ("a: !!python/object/apply:os.system [exit]", "python"),
    "an object": ("a: !!python/name:os.system", "python"),
    "a tag of its own": ("a: !mine 1", "!mine"),
    "an unknown alias": ("a: *b", "undefined alias"),
}


@pytest.mark.parametrize(("text", "found"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_not_plain_yaml_is_refused_with_the_place(text: str | bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not valid YAML") as caught:
        read(text, tmp_path)
    assert found in caught.value.problem


@pytest.mark.parametrize(("text", "found"), UNREADABLE.values(), ids=UNREADABLE)
def test_where_there_are_secrets_only_the_place_is_named(text: str | bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(text, tmp_path, quote=False)
    place = r"(line \d+, column \d+|an unknown line)"
    assert re.fullmatch(rf"params.yaml is not valid YAML in UTF-8: {place}\.", caught.value.problem)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["- a", "a", "3", "1: a", "true: a", "null: a"])
def test_a_file_must_hold_names_and_values(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a"):
        read(text, tmp_path)


ODD_TEXT = st.text(alphabet="ab:{}[]&*!|>-#\"'\n 1?%@`,", max_size=60).map(str.encode)


@settings(deadline=None)
@given(content=st.binary(max_size=200) | ODD_TEXT)
def test_anything_at_all_is_a_mapping_or_an_error_of_the_user(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with contextlib.suppress(UserError):
        assert isinstance(read(content, tmp_path_factory.getbasetemp()), dict)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"laef": {}}, "params.yaml"),
        ({"leaf": {"szie": 1}}, "params.yaml.leaf"),
        ({"leaves": [{}, {"nmae": "x"}]}, "params.yaml.leaves.1"),
        ({"named": {"one": {"sze": 1}}}, "params.yaml.named.one"),
        ({"named": {"size": {"nam": 1}}}, "params.yaml.named.size"),
        ({"maybe": {"sizes": 1}}, "params.yaml.maybe"),
    ],
)
def test_an_unknown_key_is_named_with_its_place_and_the_key_that_was_meant(
    content: dict[str, object], place: str
) -> None:
    with pytest.raises(UnknownName) as caught:
        validated(Tree, content, where="params.yaml")
    assert caught.value.problem.endswith(f" in {place}.")
    assert caught.value.near in ("leaf", "size", "name")


def test_every_wrong_value_is_named_with_what_was_found() -> None:
    with pytest.raises(UserError) as caught:
        validated(Tree, {"leaf": {"size": "big"}, "leaves": 3}, where="params.yaml")
    assert "leaf.size: " in caught.value.problem
    assert "(got 'big')" in caught.value.problem
    assert "leaves: " in caught.value.problem


def test_where_secrets_stand_no_wrong_value_is_quoted() -> None:
    with pytest.raises(UserError) as caught:
        validated(Tree, {"leaf": {"size": "hunter2"}}, where="secrets.yaml", quote=False)
    assert "leaf.size: " in caught.value.problem
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "2024-01-31"])
def test_a_word_that_yaml_takes_for_something_else_is_explained(word: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need quotes"):
        validated(Tree, {"leaf": read(f"name: {word}", tmp_path)}, where="params.yaml")


def test_a_section_without_lines_is_the_default() -> None:
    assert validated(Tree, {"leaf": None, "maybe": None}, where="params.yaml") == Tree()


def test_aliases_of_aliases_do_not_fill_the_error(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    content = read("\n".join(lines), tmp_path)
    assert isinstance(content, dict)
    with pytest.raises(UserError) as caught:
        validated(Tree, {"leaf": {"name": content["a11"]}}, where="params.yaml")
    assert len(str(caught.value)) < 1000


def test_a_recipe_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Tree().leaf = Leaf(size=2)  # type: ignore[misc]
