"""The tree tells the journey: no folder for leftovers, and each extension point is one visible dict."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFTOVERS = {"utils", "core", "common", "components", "helpers"}
EXTENSION_POINTS = {"data": "SOURCES", "models": "MODELS", "metrics": "METRICS", "monitor": "DRIFT_TESTS"}


def leftovers_in(root: Path) -> list[str]:
    """Finds folders and modules whose name says nothing."""
    return [
        str(path.relative_to(root))
        for folder in ("src", "tests", "benchmarks")
        for path in sorted((root / folder).rglob("*"))
        if path.stem.lower() in LEFTOVERS and (path.is_dir() or path.suffix == ".py")
    ]


def hidden_dicts(package: Path) -> list[str]:
    """Names each part whose extension point is not written out as a dict in its `__init__.py`."""
    hidden = []
    for part, name in EXTENSION_POINTS.items():
        home = package / part / "__init__.py"
        if home.parent.is_dir() and not (home.exists() and holds_dict(home, name)):
            hidden.append(f"{part}/__init__.py must hold `{name} = {{...}}`, one line an entry")
    return hidden


def holds_dict(module: Path, name: str) -> bool:
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return isinstance(getattr(node, "value", None), ast.Dict)
    return False


def test_nothing_is_filed_under_leftovers() -> None:
    assert leftovers_in(ROOT) == []


def test_extension_points_are_visible_dicts() -> None:
    assert hidden_dicts(ROOT / "src" / "medloop") == []


@pytest.mark.parametrize("name", ["src/medloop/utils/x.py", "tests/helpers.py", "src/medloop/serve/Core/x.py"])
def test_a_leftovers_name_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert len(leftovers_in(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "MODELS = dict(a=1)", "MODELS = {k: 1 for k in names}", "def MODELS(): ..."])
def test_a_hidden_extension_point_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text(text, encoding="utf-8")
    assert hidden_dicts(tmp_path) == ["models/__init__.py must hold `MODELS = {...}`, one line an entry"]


@pytest.mark.parametrize("text", ["MODELS = {'a': 1}", "MODELS: dict[str, int] = {\n    'a': 1,\n}"])
def test_a_visible_extension_point_passes(text: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text(text, encoding="utf-8")
    assert hidden_dicts(tmp_path) == []
