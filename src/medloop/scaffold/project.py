"""Writing a project: a recipe, settings, a pipeline and a README; no Python to edit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import yaml

from medloop.errors import UnknownName, UserError
from medloop.storage import write_text

LIKE = {
    "chest-ct": "images: phantoms of chest CT slices in four classes, made on the spot",
    "medical-mnist": "images: phantoms of six kinds of picture, as small as those of Medical MNIST",
    "breast-cancer": "a table: the Wisconsin breast cancer measurements that come with scikit-learn",
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
TEMPLATES = resources.files("medloop.scaffold") / "templates"


def write_project(
    folder: Path, *, like: str, data: str | None, label: str | None, generated: Mapping[str, str]
) -> Path:
    """Make the folder; `generated` holds files that come from the stages. An existing folder is left alone."""
    if like not in LIKE:
        raise UnknownName("--like", like, LIKE)
    if NAME.fullmatch(folder.name) is None:
        raise UserError(
            "a project's name must begin with a letter and hold letters, digits, '.', '_' and '-'",
            found=folder.name,
            hint="choose another name",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            "a new project needs a new folder", found=f"{folder.name} is there already", hint="choose another name"
        )
    files = {
        "params.yaml": _recipe(folder.name, like, data, label),
        "config.yaml": _text("config.yaml"),
        "README.md": _text("README.md").replace("PROJECT", folder.name),
        ".gitignore": _text("gitignore"),
        ".dvcignore": "logs\nmlruns\nmodels\n",
        ".dvc/config": _text("dvc_config"),
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        **generated,
    }
    for name, text in files.items():
        write_text(folder / name, text)
    return folder


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _recipe(name: str, like: str, data: str | None, label: str | None) -> str:
    if data is None:
        return _text(f"params.{like}.yaml").replace("PROJECT", yaml_text(name))
    if label is None:
        raise UserError("--data needs --label", found="no --label", hint="name the column that holds the class")
    place = data if "://" in data else str(Path(data).resolve())
    values = {"PROJECT": name, "DATA_PATH": place, "DATA_LABEL": label}
    return re.sub("|".join(values), lambda found: yaml_text(values[found[0]]), _text("params.table.yaml"))


def yaml_text(text: str) -> str:
    """A text as YAML writes it, quoted where it must be."""
    return yaml.safe_dump(text, width=10_000).removesuffix("\n...\n").strip()
