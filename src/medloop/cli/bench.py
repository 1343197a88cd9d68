"""`medloop bench`: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.show import here, show_table

app = typer.Typer(help="How fast it is on this machine.", no_args_is_help=True)

Bundle = Annotated[Path | None, typer.Option(help="A bundle's folder; the project's champion by default.")]
Input = Annotated[Path | None, typer.Option("--input", help="An image, or a row as a JSON object; made up by default.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long each measurement takes.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often each is repeated; the middle one counts.")]


@app.callback()
def bench() -> None:
    """How fast it is on this machine."""


@app.command()
def serve(bundle: Bundle = None, file: Input = None, seconds: Seconds = 2.0, rounds: Rounds = 3) -> None:
    """Requests a second over HTTP against the bare model; keys and journal are temporary ones."""
    from medloop.serve import bench as measuring
    from medloop.settings import load_settings

    settings = load_settings(here())
    folder = bundle or measuring.champion_folder(here(), settings)
    case = measuring.case_of(folder, file) if file else None
    found = measuring.bench(folder, settings, case=case, seconds=seconds, rounds=rounds, say=typer.echo)
    show_table(measuring.HEADER, measuring.lines_of(found))
    typer.echo("\n".join(measuring.remarks_of(found)))
