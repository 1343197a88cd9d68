"""Arrows go one way: who may import whom, which library stays where, and no cycles."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture.import_statements import Import, imports_in, inside, modules_in, part_of

PACKAGE = Path(__file__).parents[2] / "src" / "medloop"

# The words: everyone may import them, and they import only each other. "" is medloop/__init__.py.
WORDS = {
    *("", "cores", "errors", "case", "settings", "storage", "client", "recipe", "page", "progress", "times"),
    "wording",
}

# What each package may import besides the words and itself. The most exact row holds.
MAY_IMPORT: dict[str, set[str]] = {
    "metrics": set(),
    "decode": set(),
    "phantoms": set(),
    "models": {"metrics"},
    "feedback": set(),
    "scaffold": set(),
    "prepare": {"decode"},
    "data": {"decode", "prepare", "phantoms"},
    "audit": {"data", "decode", "models", "metrics"},
    "train": {"decode", "prepare", "models", "metrics"},
    "bundle": {"decode", "prepare", "metrics"},
    "bundle.export": {"decode", "prepare", "metrics", "models"},
    "evaluate": {"bundle", "metrics"},
    "gate": {"evaluate", "bundle", "metrics"},
    "registry": {"bundle"},
    "monitor": {"bundle", "metrics", "feedback"},
    "serve": {"bundle", "feedback", "registry.store", "registry.mirror", "registry.follow"},
    "ui": set(),
    "bench": {"bundle", "feedback", "registry.mirror", "registry.follow"},
    "scale": {"bundle", "data", "train"},
    "steps": {
        *("decode", "data", "prepare", "models", "audit", "train", "bundle", "evaluate", "gate", "registry"),
        *("feedback", "metrics", "monitor"),
    },
    "retrain": {"feedback", "monitor", "registry", "steps"},
    "cli": {"*"},
    "__main__": {"cli"},
}

# Inside two large packages: what a sub-package may import of its own package besides itself.
WITHIN: dict[str, set[str]] = {
    "serve.telemetry": set(),
    "serve.http": {"serve.telemetry"},
    "serve.inference": {"serve.http"},
    "serve.shadow": {"serve.telemetry"},
    "serve.api": {"serve.http", "serve.inference", "serve.service"},
    "feedback.db": {"feedback.records"},
    "feedback.journal": {
        *("feedback.db", "feedback.records", "feedback.operations"),
        *("feedback.corrections", "feedback.inputs", "feedback.keys"),
    },
    "feedback.outage": {
        *("feedback.db", "feedback.journal", "feedback.records", "feedback.operations"),
        *("feedback.corrections", "feedback.inputs"),
    },
}

# Parts of which a module may be imported only where it runs late: inside a function.
LATE = {"cli"}

# What they may import at the top all the same: it imports only words, and `--help` lists what it declares.
LIGHT = {"scaffold", "steps.stages"}

# The fences: a library, and the only places that import it.
FENCES: dict[str, set[str]] = {
    "torch": {"models", "train", "audit", "bundle.export"},
    "torchvision": {"models", "train", "audit", "bundle.export"},
    "timm": {"models", "train", "audit", "bundle.export"},
    "onnx": {"models", "train", "bundle.export"},
    "skl2onnx": {"models", "train", "bundle.export"},
    "skops": {"models", "train", "bundle.export"},
    # data.sources.wisconsin reads the table that scikit-learn carries, and nothing else of it.
    "sklearn": {"models", "train", "audit", "metrics", "monitor", "bundle.export", "data.sources.wisconsin"},
    "mlflow": {"registry.mlflow"},
    "model_signing": {"registry.signing"},
    "sqlalchemy": {"feedback"},
    "alembic": {"feedback"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "opentelemetry": {"serve.telemetry"},
    "streamlit": {"ui"},
    "ray": {"scale"},
    "boto3": {"storage"},
    "fsspec": {"storage"},
    "s3fs": {"storage"},
    "pydicom": {"decode.dicom", "phantoms"},
}


def row_of(module: str) -> str | None:
    return max((row for row in MAY_IMPORT if inside(module, row)), key=len, default=None)


def broken_table(package: Path) -> list[str]:
    """Names each module without a row and each import of ours that its row does not allow."""
    broken = [
        f"{module}: is neither a word nor a part of the table in {'test_imports.py'}"
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
        elif importer in LATE and not found.late and found.target not in LIGHT and part_of(found.target) not in LIGHT:
            broken.append(f"{found.where} imports {found.target} at the top: {importer} imports parts inside functions")
    return broken


def broken_within(package: Path) -> list[str]:
    """Return each import between sub-packages of one package that WITHIN does not allow."""
    return [
        f"{found.where} imports {found.target}: within {row.split('.', maxsplit=1)[0]}, {row} may import "
        f"{', '.join(sorted(WITHIN[row])) or 'nothing'}"
        for found in imports_in(package)
        for row in WITHIN
        if inside(found.module, row)
        and found.ours
        and part_of(found.target) == part_of(row)
        and not any(inside(found.target, place) for place in {row, *WITHIN[row]})
    ]


def two_way_pairs(package: Path) -> list[str]:
    """Return each two packages of which each imports the other, the words and a package's own parents left aside."""
    folders = {name for name, path in modules_in(package).items() if path.name == "__init__.py"}
    arrows: dict[tuple[str, str], Import] = {}
    for found in imports_in(package):
        pair = tuple(name if name in folders else name.rpartition(".")[0] for name in (found.module, found.target))
        nested = inside(pair[0], pair[1]) or inside(pair[1], pair[0])
        if found.ours and not nested and not {part_of(name) for name in pair} & WORDS:
            arrows[pair[0], pair[1]] = found
    return [
        f"{arrow.where} imports {arrow.target}, and {arrows[second, first].where} imports the other way"
        for (first, second), arrow in arrows.items()
        if first < second and (second, first) in arrows
    ]


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


def test_sub_packages_import_only_what_the_table_allows() -> None:
    broken = broken_within(PACKAGE)
    assert not broken, report(broken)


def test_no_two_packages_import_each_other() -> None:
    broken = two_way_pairs(PACKAGE)
    assert not broken, report(broken)


def test_libraries_stay_behind_their_fences() -> None:
    broken = broken_fences(PACKAGE)
    assert not broken, report(broken)


def test_no_modules_import_each_other() -> None:
    assert not cycle_in(PACKAGE), f"a cycle of imports: {cycle_in(PACKAGE)}"


def test_the_rules_name_only_parts_that_have_a_row() -> None:
    places = set().union(*MAY_IMPORT.values(), *FENCES.values(), *WITHIN.values(), WITHIN) - {"*"}
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
        "medloop/data/x.py:2 imports audit.y: besides the words, data may import decode, phantoms, prepare",
    ),
    "for types only": (
        {"metrics/x.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import medloop.data"},
        "metrics may import nothing",
    ),
    "a relative import": ({"metrics/x.py": "from ..data import y", "data/y.py": ""}, "imports data.y"),
    "a relative import of a package": ({"metrics/__init__.py": "from .. import data", "data/__init__.py": ""}, "data"),
    "import_module": ({"serve/x.py": "import importlib\nimportlib.import_module('medloop.models')"}, "imports models"),
    "bundle outside export": (
        {"bundle/format.py": "import medloop.models"},
        "bundle may import decode, metrics, prepare",
    ),
    "serve and tracking": ({"serve/x.py": "import medloop.registry.mlflow.tracking"}, "registry.mlflow.tracking"),
    "the web page past HTTP": ({"ui/x.py": "import medloop.bundle"}, "ui may import nothing"),
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
    "bundle/export/table.py": "import skl2onnx, medloop.models",
    "serve/app.py": "import fastapi\nfrom medloop.registry.store import open_store",
    "ui/page.py": "import streamlit",
    "registry/store.py": "from medloop.bundle import format",
    "registry/mlflow/tracking.py": "def log():\n    import mlflow.pyfunc",
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


BAD_WITHIN = {
    "telemetry and http": ({"serve/telemetry/x.py": "import medloop.serve.http.guard", "serve/http/guard.py": ""}, 1),
    "a root module": ({"feedback/db/x.py": "import medloop.feedback.store", "feedback/store.py": ""}, 1),
    "downwards": ({"serve/http/x.py": "import medloop.serve.telemetry.logs", "serve/telemetry/logs.py": ""}, 0),
    "itself": ({"serve/http/x.py": "import medloop.serve.http.y", "serve/http/y.py": ""}, 0),
}


@pytest.mark.parametrize(("files", "number"), BAD_WITHIN.values(), ids=BAD_WITHIN)
def test_a_forbidden_import_within_a_package_is_named(files: dict[str, str], number: int, tmp_path: Path) -> None:
    assert len(broken_within(plant(tmp_path, files))) == number


def test_two_packages_that_import_each_other_are_named(tmp_path: Path) -> None:
    files = {
        "data/__init__.py": "",
        "data/a/__init__.py": "",
        "data/b/__init__.py": "",
        "data/a/x.py": "import medloop.data.b.y",
        "data/b/y.py": "",
        "data/b/z.py": "import medloop.data.a.w",
        "data/a/w.py": "import medloop.data.root",
        "data/root.py": "import medloop.data.b.y",
    }
    assert len(two_way_pairs(plant(tmp_path, files))) == 1


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
