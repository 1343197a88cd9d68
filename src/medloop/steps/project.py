"""A project: a folder with a recipe, settings and the files of its stages."""

from __future__ import annotations

import getpass
import logging
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.errors import UserError
from medloop.recipe import Recipe, check_kind, load_recipe
from medloop.recipe.kinds import NAMES
from medloop.settings import Settings, load_settings
from medloop.storage import write_text
from medloop.storage.atomic import OWNER_ONLY

SMOKE_FOLDS = 3
NOT_COMMITTED = "# Never commit this file. Keep a copy: patients are pseudonymised with this key."


@dataclass(frozen=True, kw_only=True)
class Project:
    """The recipe and settings of a project folder."""

    root: Path
    recipe: Recipe
    settings: Settings
    smoke: bool = False

    @property
    def work(self) -> Path:
        """Return the folder that the stages write to; a smoke run has its own."""
        work = self.root / self.settings.work
        return work / "smoke" if self.smoke else work

    @property
    def models(self) -> Path:
        """Return the model store, which must be a folder where versions are registered."""
        if "://" in self.settings.models:
            raise UserError(
                f"The setting `models` is {self.settings.models}, but versions can only be registered in a folder.",
                "Set `models` to a folder and `mirror` to the address: promoted versions are copied there.",
            )
        return self.root / self.settings.models

    def shown(self, name: str) -> str:
        """Return the path of a file in the work folder, relative to the project."""
        return str((self.work / name).relative_to(self.root))

    def cases(self, columns: Sequence[str] | None = None) -> Any:
        """Return the manifest, or these columns of it."""
        from medloop.data import manifest

        path = self.work / "cases.parquet"
        if not path.is_file():
            raise UserError(f"{self.shown('cases.parquet')} does not exist.", "Run `medloop ingest` first.")
        return manifest.read_cases(path, columns)


def load_project(root: Path, *, smoke: bool = False, k_folds: int | None = None) -> Project:
    """Return the project in a folder."""
    recipe = load_recipe(root)
    check_recipe(recipe)
    folds = SMOKE_FOLDS if smoke and k_folds is None else k_folds
    if folds is not None:
        recipe = recipe.with_values("split", folds=folds)
    return Project(root=root, recipe=recipe, settings=load_settings(root), smoke=smoke)


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose sections contradict each other, before any stage runs."""
    from medloop.data import find_source
    from medloop.models import MODELS, find_model, hyperparameters
    from medloop.train.space import check_tuning

    gives, model = find_source(recipe.data.source).gives, recipe.model
    check_kind(recipe, gives)
    learns = {"table": "table", "images": "image"}[gives]
    if "name" in model.model_fields_set and find_model(model.name).learns != learns:
        raise UserError(
            f"model.name: {model.name} cannot learn from {NAMES[gives]}, which data.source: {recipe.data.source} "
            "provides.",
            f"Choose {' or '.join(name for name, one in MODELS.items() if one.learns == learns)}.",
        )
    if recipe.prepare.frame == "all" and recipe.export.per != "patient":
        raise UserError(
            f"prepare.frame: all needs export.per: patient, but export.per is {recipe.export.per}.",
            "Set export.per: patient to combine the frames of a patient, or prepare.frame: first or middle.",
        )
    hyperparameters(model.name, model.params)
    check_tuning(model, recipe.train, recipe.tune)


def patient_key(root: Path, settings: Settings) -> bytes:
    """Return the key that pseudonymises patients; create one in secrets.yaml where there is none."""
    path = root / "secrets.yaml"
    _restrict(path)
    # Another run may have created one since these settings were read.
    known = settings.patient_key or load_settings(root).patient_key
    if known is not None:
        return known.get_secret_value().encode()
    text = secrets.token_hex(32)
    before = path.read_text("utf-8") if path.is_file() else NOT_COMMITTED
    write_text(path, f"{before.rstrip()}\npatient_key: {text}\n", secret=True)
    return text.encode()


def _restrict(path: Path) -> None:
    """Restrict a file of secrets to its owner, or warn that others can read it."""
    if not path.is_file() or not path.stat().st_mode & 0o077:
        return
    log = logging.getLogger("medloop")
    try:
        path.chmod(OWNER_ONLY)
    except PermissionError:
        log.warning("%s is readable by other users and belongs to another user: ask for `chmod 600`", path.name)
    else:
        log.warning("%s was readable by other users; it is now restricted to its owner", path.name)


def git_commit(root: Path) -> str | None:
    """Return the current commit, where the project is in a Git repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def who(settings: Settings) -> str:
    """Return the user name that a promotion is recorded under."""
    try:
        return settings.user or getpass.getuser()
    except (OSError, KeyError):
        # In a container the user id often has no name.
        return "unknown"
