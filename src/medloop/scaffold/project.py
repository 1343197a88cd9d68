"""Creating a project: a recipe, settings, a pipeline and a README."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import yaml

from medloop.errors import UnknownName, UserError
from medloop.storage import write_text

LIKE = {
    "chest-ct": "images: generated chest CT slices in four classes",
    "medical-mnist": "images: generated images of six kinds, as small as those of Medical MNIST",
    "breast-cancer": "a table: the Wisconsin breast cancer data included in scikit-learn",
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
TEMPLATES = resources.files("medloop.scaffold") / "templates"


def write_project(
    folder: Path, *, like: str, data: str | None, label: str | None, generated: Mapping[str, str]
) -> Path:
    """Create the project in a new folder; `generated` holds the files that the stages define."""
    if like not in LIKE:
        raise UnknownName("--like", like, LIKE)
    if NAME.fullmatch(folder.name) is None:
        raise UserError(
            f"{folder.name} is not a valid project name.",
            "Use up to 100 letters, digits, '.', '_' and '-', and begin with a letter.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder.name} already exists.", "Choose another name.")
    files = {
        "params.yaml": _recipe(folder.name, like, data, label),
        "config.yaml": _read_template("config.yaml"),
        "README.md": _read_template("README.md").replace("PROJECT", folder.name),
        ".gitignore": _read_template("gitignore"),
        ".dvcignore": "logs\nmlruns\nmodels\n",
        ".dvc/config": _read_template("dvc_config"),
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        **generated,
    }
    for name, text in files.items():
        write_text(folder / name, text)
    return folder


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _recipe(name: str, like: str, data: str | None, label: str | None) -> str:
    if data is None:
        return _read_template(f"params.{like}.yaml").replace("PROJECT", yaml_text(name))
    if label is None:
        raise UserError("--data needs --label.", "Name the column with the class.")
    place = data if "://" in data else str(Path(data).resolve())
    values = {"PROJECT": name, "DATA_PATH": place, "DATA_LABEL": label}
    template = _read_template("params.table.yaml")
    return re.sub("|".join(values), lambda match: yaml_text(values[match[0]]), template)


def yaml_text(text: str) -> str:
    """Return a string as YAML, quoted where necessary."""
    return yaml.safe_dump(text, width=10_000).removesuffix("\n...\n").strip()
