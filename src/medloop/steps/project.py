"""A project: a folder with a recipe and settings, and where its files stand."""

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
from medloop.settings import Settings, load_settings
from medloop.storage import write_text
from medloop.storage.atomic import OWNER_ONLY

SMOKE_FOLDS = 3
NOT_COMMITTED = "# Never committed. Keep a copy: patients are told apart by this key."


@dataclass(frozen=True, kw_only=True)
class Project:
    """What every step is given."""

    root: Path
    recipe: Recipe
    settings: Settings
    smoke: bool = False

    @property
    def work(self) -> Path:
        """Where the stages write; a smoke run has a place of its own."""
        work = self.root / self.settings.work
        return work / "smoke" if self.smoke else work

    @property
    def models(self) -> Path:
        """The model store; versions are made in a folder only."""
        if "://" in self.settings.models:
            raise UserError(
                "models must be a folder where versions are made",
                found=self.settings.models,
                hint="name a folder, and the address as `mirror`: what is promoted is copied there",
            )
        return self.root / self.settings.models

    def shown(self, name: str) -> str:
        """A file of the work folder as the user would type it."""
        return str((self.work / name).relative_to(self.root))

    def cases(self, columns: Sequence[str] | None = None) -> Any:
        """The manifest, or these columns of it."""
        from medloop.data import manifest

        path = self.work / "cases.parquet"
        if not path.is_file():
            raise UserError("the cases must have been ingested", found="no cases.parquet", hint="run `medloop ingest`")
        return manifest.read_cases(path, columns)


def load_project(root: Path, *, smoke: bool = False, k_folds: int | None = None) -> Project:
    """The project in a folder."""
    recipe = load_recipe(root)
    check_recipe(recipe)
    folds = SMOKE_FOLDS if smoke and k_folds is None else k_folds
    if folds is not None:
        recipe = recipe.with_values("split", folds=folds)
    return Project(root=root, recipe=recipe, settings=load_settings(root), smoke=smoke)


def check_recipe(recipe: Recipe) -> None:
    """Refuse what no stage could use, before the first one runs."""
    from medloop.data import find_source
    from medloop.models import MODELS, find_model, hyperparameters
    from medloop.train.space import check_tuning

    gives, model = find_source(recipe.data.source).gives, recipe.model
    check_kind(recipe, gives)
    learns = {"table": "table", "images": "image"}[gives]
    if "name" in model.model_fields_set and find_model(model.name).learns != learns:
        raise UserError(
            f"model.name: {model.name} cannot learn from {gives}",
            found=f"data.source: {recipe.data.source}, which gives {gives}",
            hint=f"choose {' or '.join(name for name, one in MODELS.items() if one.learns == learns)}",
        )
    if recipe.prepare.frame == "all" and recipe.export.per != "patient":
        raise UserError(
            "prepare.frame: all makes slices of frames, which only a model that decides per patient puts together",
            found=f"export.per: {recipe.export.per}",
            hint="set export.per: patient, or prepare.frame: first or middle",
        )
    hyperparameters(model.name, model.params)
    check_tuning(model, recipe.train, recipe.tune)


def patient_key(root: Path, settings: Settings) -> bytes:
    """The key under which patients are hidden; a project that has none is given one, in secrets.yaml."""
    path = root / "secrets.yaml"
    _narrow(path)
    # Another run may have made one since these settings were read.
    known = settings.patient_key or load_settings(root).patient_key
    if known is not None:
        return known.get_secret_value().encode()
    text = secrets.token_hex(32)
    before = path.read_text("utf-8") if path.is_file() else NOT_COMMITTED
    write_text(path, f"{before.rstrip()}\npatient_key: {text}\n", secret=True)
    return text.encode()


def _narrow(path: Path) -> None:
    """Take the rights to a file of secrets from all but its owner, or say that they are too wide."""
    if not path.is_file() or not path.stat().st_mode & 0o077:
        return
    log = logging.getLogger("medloop")
    try:
        path.chmod(OWNER_ONLY)
    except PermissionError:
        log.warning("%s can be read by other users, and belongs to another one: ask for `chmod 600`", path.name)
    else:
        log.warning("%s could be read by other users; now only by its owner", path.name)


def git_commit(root: Path) -> str | None:
    """The commit that the project stands at, where it is in a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def who(settings: Settings) -> str:
    """The name under which a promotion is recorded."""
    try:
        return settings.user or getpass.getuser()
    except (OSError, KeyError):
        # In a container the number of the user often has no name.
        return "unknown"
