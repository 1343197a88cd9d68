"""The stages, one command each, and `run` for all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

import typer

from medloop.cli.show import here, show_done, start_log
from medloop.cli.verdict import told_by_the_gate

Smoke = Annotated[bool, typer.Option("--smoke", help="A fifth of the data and 3 folds; can never be promoted.")]
KFolds = Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation (default: split.folds).")]

STAGES = {
    "ingest": "Read the source into the manifest of cases.",
    "audit": "Examine the data before anything is trained.",
    "split": "Set test cases and folds apart, by patient and duplicate group.",
    "prepare": "Turn the cases into the model's input, once.",
    "tune": "Search hyperparameters over the ranges of the recipe.",
    "train": "Cross-validate, then fit on all training cases.",
    "export": "Make the bundle: ONNX, calibration, threshold.",
    "evaluate": "Score the bundle on the locked test cases.",
    "gate": "Hold the report against the recipe's rules; exit code 3 is a no.",
    "register": "Store the version, and promote it if the gate passed.",
}


def stage_command(name: str) -> Callable[..., None]:
    """The command of one stage."""

    def command(smoke: Smoke = False, k_folds: KFolds = None) -> None:
        from medloop.steps.pipeline import run_stage
        from medloop.steps.project import load_project

        project = load_project(here(), smoke=smoke, k_folds=k_folds)
        start_log(project, name)
        with told_by_the_gate(project) if name == "gate" else nullcontext():
            show_done(run_stage(project, name))

    return command


def run(smoke: Smoke = False, k_folds: KFolds = None) -> None:
    """All stages in order, each only if something changed."""
    from medloop.steps.pipeline import run_all
    from medloop.steps.project import load_project

    project = load_project(here(), smoke=smoke, k_folds=k_folds)
    start_log(project, "run")
    with told_by_the_gate(project):
        for done in run_all(project):
            show_done(done)


def lock() -> None:
    """Note for DVC what the stages depend on besides the recipe; `dvc repro` does so by itself."""
    from medloop.steps.dvc import LOCK, write_lock
    from medloop.steps.project import load_project

    typer.echo(f"{LOCK}: {'something has changed' if write_lock(load_project(here())) else 'as before'}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for name, says in STAGES.items():
        if name != "audit":
            app.command(name, help=says)(stage_command(name))
    app.command()(run)
    app.command()(lock)
