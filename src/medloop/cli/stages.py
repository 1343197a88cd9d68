"""One command for each stage, `run` for all of them, `cases`, `compare` and `lock`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

import typer

from medloop.cli.show import here, show_done, show_table, start_log
from medloop.cli.verdict import showing_verdict
from medloop.steps.stages import OUTCOMES, STAGES

Smoke = Annotated[bool, typer.Option("--smoke", help="A fifth of the data, 3 folds; the model cannot be promoted.")]
KFolds = Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation (default: split.folds).")]
DataPath = Annotated[
    str | None,
    typer.Argument(help="A CSV file, folder of images or .npz file (default: the project's cases)."),
]
ClassPattern = Annotated[str | None, typer.Option(help="Regular expression for the class in a folder's name.")]
Label = Annotated[str | None, typer.Option(help="The column with the class, for PATH.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models (for tables, all by default) or backbones.")]
Ids = Annotated[list[str], typer.Argument(help="Case ids, or their beginnings.")]
Repeats = Annotated[int, typer.Option(min=1, help="Repetitions of the cross-validation.")]


def stage_command(name: str) -> Callable[..., None]:
    """Return the command of a stage."""

    def command(smoke: Smoke = False, k_folds: KFolds = None) -> None:
        from medloop.steps.pipeline import run_stage
        from medloop.steps.project import load_project

        project = load_project(here(), smoke=smoke, k_folds=k_folds)
        start_log(project, name)
        with showing_verdict(project) if name == "gate" else nullcontext():
            show_done(run_stage(project, name))

    return command


def run(smoke: Smoke = False, k_folds: KFolds = None) -> None:
    """Run all stages in order, each only if its inputs changed."""
    from medloop.steps.pipeline import run_all
    from medloop.steps.project import load_project

    project = load_project(here(), smoke=smoke, k_folds=k_folds)
    start_log(project, "run")
    with showing_verdict(project):
        for done in run_all(project):
            show_done(done)


def audit(path: DataPath = None, label: Label = None, class_pattern: ClassPattern = None, smoke: Smoke = False) -> None:
    """Audit the data before training."""
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
    """Show the files of cases, which findings and predictions refer to by id."""
    from medloop.steps.look import find_cases

    show_table(("case", "file"), find_cases(here(), ids))


def compare(names: Names = None, repeats: Repeats = 3, smoke: Smoke = False) -> None:
    """Compare models by repeated cross-validation -> MODEL_SELECTION.md."""
    from medloop.steps.compare import compare_models
    from medloop.steps.project import load_project

    project = load_project(here(), smoke=smoke)
    start_log(project, "compare")
    typer.echo(compare_models(project, names or [], repeats=repeats))


def lock() -> None:
    """Record for DVC what the stages depend on besides the recipe; `dvc repro` does this automatically."""
    from medloop.steps.dvc import LOCK, write_lock
    from medloop.steps.project import load_project

    typer.echo(f"{LOCK}: {'changed' if write_lock(load_project(here())) else 'unchanged'}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for name, stage in (STAGES | OUTCOMES).items():
        if name != "audit":
            app.command(name, help=stage.help)(stage_command(name))
    app.command()(audit)
    app.command()(run)
    app.command()(cases)
    app.command()(compare)
    app.command()(lock)
