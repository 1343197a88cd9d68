"""The tree tells the journey: no folder for leftovers, and each extension point is one visible dict."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFTOVERS = {"utils", "core", "common", "components", "helpers"}
EXTENSION_POINTS = {"data": "SOURCES", "models": "MODELS", "metrics": "METRICS", "monitor": "DRIFT_TESTS"}


# How many modules a folder of the package may hold.
MAX_MODULES = 12
# Kinds of data, whose sub-packages have the same module names where they do the same work.
KINDS = {"images", "tables"}


def crowded_folders(package: Path) -> list[str]:
    """Return each folder with too many modules side by side."""
    folders = [path for path in sorted(package.rglob("*")) if path.is_dir()]
    counts = {str(path.relative_to(package)): len(list(path.glob("[!_]*.py"))) for path in folders}
    return [f"{name}: {count} modules" for name, count in counts.items() if count > MAX_MODULES]


def repeated_names(package: Path) -> list[str]:
    """Return each module name that a package has twice, except where two kinds of data mirror each other."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(package.rglob("[!_]*.py")):
        parts = path.relative_to(package).parts
        if len(parts) > 1:
            found.setdefault((parts[0], path.name), []).append(path)
    return [
        ", ".join(str(path.relative_to(package)) for path in paths)
        for paths in found.values()
        if len(paths) > 1 and not {path.parent.name for path in paths} <= KINDS
    ]


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


def test_no_folder_is_crowded() -> None:
    assert crowded_folders(ROOT / "src" / "medloop") == []


def test_no_package_has_a_module_name_twice() -> None:
    assert repeated_names(ROOT / "src" / "medloop") == []


def test_a_crowded_folder_and_a_repeated_name_are_found(tmp_path: Path) -> None:
    names = [f"data/m{number}.py" for number in range(MAX_MODULES)]
    for name in [*names, "data/__init__.py", "train/images/fit.py", "train/tables/fit.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert crowded_folders(tmp_path) == repeated_names(tmp_path) == []
    (tmp_path / "data" / "one_more.py").touch()
    (tmp_path / "data" / "sources").mkdir()
    (tmp_path / "data" / "sources" / "m0.py").touch()
    assert crowded_folders(tmp_path) == ["data: 13 modules"]
    assert repeated_names(tmp_path) == ["data/m0.py, data/sources/m0.py"]


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
