"""`medloop doctor`: checks of the machine and of the project."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medloop import __version__
from medloop.errors import UserError
from medloop.recipe.recipe import RECIPE_FILE, load_recipe
from medloop.settings import load_settings

EXTRAS = {
    "train": ("scikit-learn", "mlflow", "optuna", "skl2onnx"),
    "dicom": ("python-gdcm",),
    "dvc": ("dvc",),
    "s3": ("s3fs",),
}
MIN_FREE_GIB = 2


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check; `ok` is None where it only informs."""

    what: str
    found: str
    ok: bool | None = None


def examine(root: Path) -> list[Check]:
    """Check the machine and the project in this folder."""
    free = shutil.disk_usage(root).free / 2**30
    return [
        Check(what="medloop", found=__version__),
        Check(what="Python", found=platform.python_version()),
        *_extras(),
        Check(what="free disk space", found=f"{free:.0f} GiB", ok=free > MIN_FREE_GIB),
        _check("settings", lambda: f"work in {load_settings(root).work}/"),
        *(_project(root) if (root / RECIPE_FILE).is_file() else [Check(what="project", found="none in this folder")]),
    ]


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        absent = [name for name in packages if not _is_installed(name)]
        found = f"not installed: {', '.join(absent)}; `pip install medloop[{extra}]`" if absent else "installed"
        yield Check(what=f"extra {extra}", found=found)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _project(root: Path) -> Iterator[Check]:
    recipe = _check("recipe", lambda: _recipe(root))
    yield recipe
    yield _check("model store", lambda: _store(root))
    if recipe.ok:
        yield _check("code and libraries of the stages", lambda: _lock(root))


def _recipe(root: Path) -> str:
    from medloop.steps.project import check_recipe

    recipe = load_recipe(root)
    check_recipe(recipe)
    return f"{recipe.name}: {recipe.model.name} on {recipe.data.source}"


def _store(root: Path) -> str:
    from medloop.registry.mirror import open_store

    store = open_store(load_settings(root), root)
    champion = store.champion()
    return f"{sum(1 for _ in store.versions())} versions, " + (
        f"version {champion.version} is served" if champion else "none is served"
    )


def _lock(root: Path) -> str:
    from medloop.steps.dvc import LOCK, write_lock
    from medloop.steps.project import load_project

    if not (root / LOCK).is_file():
        return f"no {LOCK} (only DVC needs one)"
    return (
        "have changed; `dvc repro` will run the affected stages again"
        if write_lock(load_project(root))
        else "as locked"
    )


def _check(what: str, function: Callable[[], str]) -> Check:
    try:
        return Check(what=what, found=function(), ok=True)
    except UserError as error:
        return Check(what=what, found=str(error), ok=False)
