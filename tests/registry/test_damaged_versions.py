"""Versions and pointers of another form than medloop writes: each is one message, and verify names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medloop.registry.store import ModelStore
from medloop.storage import read_json, write_json
from tests.loop_project import medloop
from tests.registry.versions import bundle_like, verdict_on


@pytest.fixture
def root(project: Path, tmp_path: Path) -> Path:
    """A project with two versions that may serve; the second does."""
    store = ModelStore(project / "models")
    first = store.version(1).folder
    bundle = bundle_like(first / "bundle", tmp_path / "two", name="two")
    store.register(bundle, first / "report", verdict_on(bundle))
    store.promote(2, by="me")
    return project


@pytest.mark.parametrize("name", ["2.bak", "1²", "٣", "01"])
def test_a_folder_that_is_no_version_is_passed_over(name: str, root: Path) -> None:
    (root / "models" / "versions" / name).mkdir()
    ended = medloop("models", "promote", "9", cwd=root)
    assert ended.code == 2, ended.err
    assert "no version 9; the store has 1, 2" in ended.err
    for command in ("list", "verify"):
        ended = medloop("models", command, cwd=root)
        assert ended.code == 0, ended.err


def with_field(name: str, value: Any) -> Any:
    return lambda content: {**content, name: value}


DAMAGED = {
    "no checksums": ("version.json", with_field("files", None)),
    "a bundle that is a number": ("version.json", with_field("bundle", 5)),
    "a description that is a list": ("version.json", lambda _: []),
    "a verdict that is a list": ("verdict.json", lambda _: []),
    "a verdict in words": ("verdict.json", with_field("passed", "no")),
    "rules that are numbers": ("verdict.json", with_field("rules", [1])),
    "a rule without a name": ("verdict.json", with_field("rules", [{}])),
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("name", "change"), DAMAGED.values(), ids=DAMAGED)
def test_a_version_that_cannot_be_read_is_named(name: str, change: Any, number: int, root: Path) -> None:
    path = root / "models" / "versions" / str(number) / name
    write_json(path, change(read_json(path)))
    for words in (["list"], ["promote", str(number)]):
        ended = medloop("models", *words, cwd=root)
        assert ended.code == 2, (words, ended.err)
        assert f"version {number}" in ended.err.lower(), (words, ended.err)
        assert name in ended.err, (words, ended.err)
    ended = medloop("models", "verify", cwd=root)
    assert ended.code == 2, ended.err
    assert f"Version {number} cannot be read: {name}" in ended.err


@pytest.mark.parametrize(
    "fields", [{"previous": "x"}, {"previous": True}, {"bundle": 5}, {"by": None}, {"promoted": []}, {"counter": -1}]
)
def test_a_pointer_with_a_field_of_another_type_is_damaged(fields: dict[str, Any], root: Path) -> None:
    path = root / "models" / "champion.json"
    write_json(path, {**read_json(path), **fields})
    ended = medloop("models", "list", cwd=root)
    assert ended.code == 2, ended.err
    assert "champion.json does not name a version" in ended.err
    ended = medloop("models", "verify", cwd=root)
    assert "champion.json is damaged; it was restored" in ended.out + ended.err
    assert medloop("models", "rollback", cwd=root).code == 0
    assert json.loads(path.read_bytes())["version"] == 1


def test_a_reference_with_a_field_of_another_type_is_named(root: Path) -> None:
    path = root / "models" / "reference.json"
    write_json(path, {**read_json(path), "bundle": 5})
    ended = medloop("models", "verify", cwd=root)
    assert ended.code == 2, ended.err
    assert "reference.json" in ended.err
