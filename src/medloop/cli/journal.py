"""`medloop journal`: verify, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.db import opened
from medloop.cli.show import here
from medloop.times import local_time

app = typer.Typer(help="The record of everything that was answered, corrected and decided.", no_args_is_help=True)

Noted = Annotated[str | None, typer.Option("--noted", help="A head that an earlier run printed: NUMBER:HASH.")]
Bundle = Annotated[Path | None, typer.Option(help="The bundle's folder, where it is not in the model store.")]


@app.command()
def verify(noted: Noted = None) -> None:
    """Say where the journal was edited, cut, reordered or rebuilt."""
    from medloop.steps.journal import verify as verify_journal

    with opened() as feedback:
        typer.echo(verify_journal(feedback, noted=noted))


@app.command()
def replay(prediction_id: Annotated[str, typer.Argument(help="The prediction's id.")], bundle: Bundle = None) -> None:
    """Compute a past prediction again and hold it against what was answered."""
    from medloop.registry.mirror import open_store
    from medloop.settings import load_settings
    from medloop.steps.journal import replay as compute_again

    with opened() as feedback:
        found = compute_again(feedback, prediction_id, models=open_store(load_settings(here()), here()), bundle=bundle)
    label = found.again.label or f"abstained ({found.again.reason})"
    when = local_time(found.stored.at)
    typer.echo(f"{label}, as was answered {when}; largest difference {found.difference:.2g}")
