"""`medloop serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.show import here

Bundle = Annotated[Path | None, typer.Option(help="A bundle's folder; the project's champion by default.")]


def serve(
    bundle: Bundle = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: settings).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on (default: settings).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: settings).")] = None,
    auth: Annotated[bool | None, typer.Option("--auth/--no-auth", help="Keys; without, on this machine alone.")] = None,
) -> None:
    """Answer predictions over HTTP."""
    from medloop.serve.run import run_service
    from medloop.settings import load_settings

    settings, folder = load_settings(here()), here()
    run_service(
        settings, folder=folder, bundle=bundle, host=host, port=port, workers=workers, auth=auth, say=typer.echo
    )


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)
