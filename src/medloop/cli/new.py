"""`medloop new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.scaffold.project import LIKE, write_project

Name = Annotated[str, typer.Argument(help="The project's name and folder.")]
Like = Annotated[str, typer.Option(help=f"What it resembles: {', '.join(LIKE)}.")]
Data = Annotated[str | None, typer.Option(help="A CSV file (path or address) to learn from.")]
Label = Annotated[str | None, typer.Option(help="The column that holds the class, with --data.")]


def new(name: Name, like: Like = "breast-cancer", data: Data = None, label: Label = None) -> None:
    """Make a project: a recipe, settings and a pipeline; no Python to edit."""
    folder = make_project(Path(name), like=like, data=data, label=label)
    typer.echo(f"made {folder.name}/ - now: cd {folder.name} && medloop run")


def make_project(folder: Path, *, like: str, data: str | None = None, label: str | None = None) -> Path:
    """The new project's folder."""
    from medloop.steps.dvc import generated_files, write_lock
    from medloop.steps.project import load_project

    made = write_project(folder.resolve(), like=like, data=data, label=label, generated=generated_files(data))
    write_lock(load_project(made))
    return made


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(new)
