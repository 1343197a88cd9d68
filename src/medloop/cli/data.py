"""`medloop audit`, `medloop cases` and `medloop compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from medloop.cli.loop import Smoke
from medloop.cli.show import here, show_done, show_table, start_log

DataPath = Annotated[
    str | None,
    typer.Argument(help="A CSV file, folder of images or .npz to look at; without it, the project's cases."),
]
ClassPattern = Annotated[str | None, typer.Option(help="What of a folder's name is the class: a regular expression.")]
Label = Annotated[str | None, typer.Option(help="The column that holds the class, with PATH.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models (for tables all, if none is named) or backbones.")]
Ids = Annotated[list[str], typer.Argument(help="Ids of cases, or how they begin.")]
Repeats = Annotated[int, typer.Option(min=1, help="How often the cross-validation is repeated.")]


def audit(path: DataPath = None, label: Label = None, class_pattern: ClassPattern = None, smoke: Smoke = False) -> None:
    """Examine the data before anything is trained."""
    if path is not None:
        from medloop.steps.look import audit_path

        typer.echo(audit_path(here(), path, label=label, class_pattern=class_pattern))
        return
    from medloop.steps.pipeline import run_stage
    from medloop.steps.project import load_project

    project = load_project(here(), smoke=smoke)
    start_log(project, "audit")
    show_done(run_stage(project, "audit"))


def cases(ids: Ids) -> None:
    """Name the files of cases, which findings and answers call by their ids."""
    from medloop.steps.look import find_cases

    show_table(("case", "file"), find_cases(here(), ids))


def compare(names: Names = None, repeats: Repeats = 3, smoke: Smoke = False) -> None:
    """Models side by side by repeated cross-validation -> MODEL_SELECTION.md."""
    from medloop.steps.compare import compare_models
    from medloop.steps.project import load_project

    project = load_project(here(), smoke=smoke)
    start_log(project, "compare")
    typer.echo(compare_models(project, names or [], repeats=repeats))


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(audit)
    app.command()(cases)
    app.command()(compare)
