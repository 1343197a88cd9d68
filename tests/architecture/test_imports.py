"""Arrows go one way: who may import whom, which library stays where, and no cycles."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "medloop"

# The words: everyone may import them, and they import only each other. "" is medloop/__init__.py.
WORDS = {"", "cores", "errors", "case", "settings", "storage", "client", "recipe", "page", "progress", "times"}

# DESIGN section 3: a part, and what it may import besides the words and itself. The most exact row holds.
MAY_IMPORT: dict[str, set[str]] = {
    "metrics": set(),
    "prepare": set(),
    "models": set(),
    "feedback": set(),
    "scaffold": set(),
    "data": {"prepare"},
    "audit": {"data", "prepare", "models", "metrics"},
    "train": {"prepare", "models", "metrics"},
    "bundle": {"prepare", "metrics"},
    "bundle.export*": {"prepare", "metrics", "models"},
    "evaluate": {"bundle", "metrics"},
    "registry": {"bundle"},
    "monitor": {"bundle", "metrics", "feedback"},
    "serve": {"bundle", "feedback", "registry.store", "registry.mirror"},
    "serve.ui": set(),
    "scale": {"bundle", "data", "train"},
    "steps": {
        *("data", "prepare", "models", "audit", "train", "bundle", "evaluate", "registry"),
        *("feedback", "monitor"),
    },
    "retrain": {"feedback", "monitor", "registry", "steps"},
    "cli": {"*"},
    "__main__": {"cli"},
}

# Parts of which a module may be imported only where it runs late: inside a function.
LATE = {"cli"}

# What they may import at the top all the same: it imports only words, and `--help` names what it can make.
LIGHT = {"scaffold"}

# The fences: a library, and the only places that import it.
FENCES: dict[str, set[str]] = {
    "torch": {"models", "train", "audit", "bundle.export*"},
    "torchvision": {"models", "train", "audit", "bundle.export*"},
    "timm": {"models", "train", "audit", "bundle.export*"},
    "onnx": {"models", "train", "bundle.export*"},
    "skl2onnx": {"models", "train", "bundle.export*"},
    "skops": {"models", "train", "bundle.export*"},
    # data.wisconsin reads the table that scikit-learn carries, and nothing else of it.
    "sklearn": {"models", "train", "audit", "metrics", "monitor", "bundle.export*", "data.wisconsin"},
    "mlflow": {"registry.tracking"},
    "model_signing": {"registry.signing"},
    "sqlalchemy": {"feedback"},
    "alembic": {"feedback"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "opentelemetry": {"serve.tracing"},
    "streamlit": {"serve.ui"},
    "ray": {"scale"},
    "boto3": {"storage"},
    "fsspec": {"storage"},
    "s3fs": {"storage"},
    "pydicom": {"prepare", "data"},
}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement: `module` and `target` are dotted names, without `medloop.` where it is our own."""

    module: str
    target: str
    where: str
    ours: bool
    late: bool


def inside(module: str, place: str) -> bool:
    return fnmatchcase(module, place) or fnmatchcase(module, f"{place}.*")


def part_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def row_of(module: str) -> str | None:
    return max((row for row in MAY_IMPORT if inside(module, row)), key=len, default=None)


def modules_in(package: Path) -> dict[str, Path]:
    """Names every module below the package."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def nodes_in(node: ast.AST, *, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Walks the tree and tells of each node whether importing the module leaves it unrun."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        unrun = late or typing_only or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, late
        yield from nodes_in(child, late=unrun)


def names_from(node: ast.ImportFrom, *, module: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """Gives the full name of each thing that `from ... import` brings: the module itself where it is one."""
    base = node.module or ""
    if node.level:
        parents = f"medloop.{module}".rstrip(".").split(".")
        parents = parents[: len(parents) - node.level + is_package]
        base = ".".join([*parents, base]).rstrip(".")
    for alias in node.names:
        name = f"{base}.{alias.name}"
        yield name if name.removeprefix("medloop.") in known else base


def names_called(node: ast.Call) -> Iterator[str]:
    """Gives what `import_module("...")` brings, so that a string is no way round the rules."""
    function = ast.unparse(node.func).rsplit(".", maxsplit=1)[-1]
    if function in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
        yield str(node.args[0].value)


@functools.cache
def imports_in(package: Path) -> list[Import]:
    """Finds every import below the package, wherever it stands in its file."""
    modules = modules_in(package)
    found = []
    for module, path in modules.items():
        for node, late in nodes_in(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                is_package = path.name == "__init__.py"
                names += names_from(node, module=module, is_package=is_package, known=set(modules))
            elif isinstance(node, ast.Call):
                names += names_called(node)
            where = f"{path.relative_to(package.parent)}:{getattr(node, 'lineno', 0)}"
            for name in dict.fromkeys(names):
                ours = part_of(name) == "medloop"
                target = name.removeprefix("medloop").removeprefix(".") if ours else name
                found.append(Import(module=module, target=target, where=where, ours=ours, late=late))
    return found


def broken_table(package: Path) -> list[str]:
    """Names each module without a row and each import of ours that its row does not allow."""
    broken = [
        f"{module}: is neither a word nor a part of the table in {Path(__file__).name}"
        for module in modules_in(package)
        if part_of(module) not in WORDS and row_of(module) is None
    ]
    for found in imports_in(package):
        importer, imported = part_of(found.module), part_of(found.target)
        if not found.ours or imported in WORDS or imported == importer:
            continue
        row = row_of(found.module) or ""
        allowed = MAY_IMPORT.get(row, set())
        if not any(inside(found.target, place) for place in allowed):
            may = ", ".join(sorted(allowed)) or "nothing"
            broken.append(
                f"{found.where} imports {found.target}: besides the words, {row or importer} may import {may}"
            )
        elif importer in LATE and not found.late and part_of(found.target) not in LIGHT:
            broken.append(f"{found.where} imports {found.target} at the top: {importer} imports parts inside functions")
    return broken


def broken_fences(package: Path) -> list[str]:
    """Names each import of a library outside the places that it is kept to."""
    return [
        f"{found.where} imports {library}: only {', '.join(sorted(FENCES[library]))} may"
        for found in imports_in(package)
        if not found.ours
        and (library := part_of(found.target)) in FENCES
        and not any(inside(found.module, place) for place in FENCES[library])
    ]


def cycle_in(package: Path) -> str:
    """Draws one cycle of modules that import each other, or nothing."""
    arrows: dict[str, set[str]] = {}
    for found in imports_in(package):
        if found.ours and found.target != found.module:
            arrows.setdefault(found.module, set()).add(found.target)
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as cycle:
        return " <- ".join(name or "medloop" for name in cycle.args[1])
    return ""


def report(broken: list[str]) -> str:
    return "\n".join(["", *broken])


def test_parts_import_only_what_the_table_allows() -> None:
    broken = broken_table(PACKAGE)
    assert not broken, report(broken)


def test_libraries_stay_behind_their_fences() -> None:
    broken = broken_fences(PACKAGE)
    assert not broken, report(broken)


def test_no_modules_import_each_other() -> None:
    assert not cycle_in(PACKAGE), f"a cycle of imports: {cycle_in(PACKAGE)}"


def test_the_rules_name_only_parts_that_have_a_row() -> None:
    places = set().union(*MAY_IMPORT.values(), *FENCES.values()) - {"*"}
    assert {part_of(place) for place in places} <= {part_of(row) for row in MAY_IMPORT} | WORDS


def plant(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "medloop"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


BAD_TABLES = {
    "a part that has no row": ({"helpful/x.py": ""}, "helpful.x: is neither"),
    "a word that imports a part": ({"case.py": "import medloop.data"}, "medloop/case.py:1 imports data: "),
    "the package itself": ({"__init__.py": "from medloop import data", "data/__init__.py": ""}, "imports data: "),
    "inside a function": (
        {"data/x.py": "def f():\n    from medloop.audit import y", "audit/y.py": ""},
        "medloop/data/x.py:2 imports audit.y: besides the words, data may import prepare",
    ),
    "for types only": (
        {"metrics/x.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import medloop.data"},
        "metrics may import nothing",
    ),
    "a relative import": ({"metrics/x.py": "from ..data import y", "data/y.py": ""}, "imports data.y"),
    "a relative import of a package": ({"metrics/__init__.py": "from .. import data", "data/__init__.py": ""}, "data"),
    "import_module": ({"serve/x.py": "import importlib\nimportlib.import_module('medloop.models')"}, "imports models"),
    "bundle outside export": ({"bundle/format.py": "import medloop.models"}, "bundle may import metrics, prepare"),
    "serve and tracking": ({"serve/x.py": "import medloop.registry.tracking"}, "registry.tracking"),
    "the web page past HTTP": ({"serve/ui/x.py": "import medloop.bundle"}, "serve.ui may import nothing"),
    "a command's part at the top": ({"cli/x.py": "import medloop.steps"}, "inside functions"),
}

GOOD_TABLE = {
    "__init__.py": "",
    "errors.py": "",
    "case.py": "from medloop import errors, __version__",
    "data/__init__.py": "from .csv import read",
    "data/csv.py": "from ..errors import UserError\nfrom medloop.prepare import table",
    "prepare/table.py": "import medloop.errors",
    "models/__init__.py": "import torch",
    "bundle/export_table.py": "import skl2onnx, medloop.models",
    "serve/app.py": "import fastapi\nfrom medloop.registry.store import open_store",
    "serve/ui/page.py": "import streamlit",
    "registry/store.py": "from medloop.bundle import format",
    "registry/tracking.py": "def log():\n    import mlflow.pyfunc",
    "bundle/format.py": "",
    "cli/train.py": "def run():\n    from medloop import steps\n    import medloop.scale.batch",
    "cli/types.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from medloop.data import csv",
    "steps.py": "from medloop.data import csv",
    "__main__.py": "from medloop.cli import train",
}


@pytest.mark.parametrize(("files", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_forbidden_import_is_named(files: dict[str, str], message: str, tmp_path: Path) -> None:
    broken = broken_table(plant(tmp_path, files))
    assert len(broken) == 1
    assert message in broken[0]


@pytest.mark.parametrize("library", FENCES)
@pytest.mark.parametrize("statement", ["import {0}", "from {0}.some import thing", "def f():\n    import {0}.some"])
def test_a_library_outside_its_fence_is_named(library: str, statement: str, tmp_path: Path) -> None:
    package = plant(tmp_path, {"scaffold/x.py": statement.format(library)})
    broken = broken_fences(package)
    assert len(broken) == 1
    assert f"imports {library}: only " in broken[0]


CYCLES = {
    "two modules": {"data/a.py": "import medloop.data.b", "data/b.py": "def f():\n    from . import a"},
    "a package and its module": {
        "models/__init__.py": "from .table import T",
        "models/table.py": "import medloop.models",
    },
    "three words": {
        "case.py": "from medloop import page",
        "page.py": "import medloop.client",
        "client.py": "from . import case",
    },
}


@pytest.mark.parametrize("files", CYCLES.values(), ids=CYCLES)
def test_a_cycle_is_drawn(files: dict[str, str], tmp_path: Path) -> None:
    assert " <- " in cycle_in(plant(tmp_path, files))


def test_a_tree_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    package = plant(tmp_path, GOOD_TABLE)
    assert broken_table(package) == []
    assert broken_fences(package) == []
    assert cycle_in(package) == ""
