"""`medloop demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.new import make_project
from medloop.cli.show import here, show_done, show_table, start_log

Folder = Annotated[Path, typer.Option(help="Where the demo's project goes.")]
Serve = Annotated[bool, typer.Option(help="Start the service at the end.")]
Port = Annotated[int, typer.Option(help="Port of the service.")]


def demo(folder: Folder = Path("medloop-demo"), serve: Serve = True, port: Port = 8000) -> None:
    """The whole loop on embedded data, then the service."""
    from medloop.steps import demo as steps
    from medloop.steps.project import load_project

    if not (folder / "params.yaml").is_file():
        make_project(folder, like="breast-cancer")
    project = load_project(here() / folder)
    start_log(project, "demo")
    for done in steps.run_demo(project):
        show_done(done)
    show_table(*steps.figures_table(project))
    bundle = steps.bundle_to_serve(project)
    typer.echo(steps.what_to_open(project, bundle, port=port))
    if serve:
        from medloop.serve.run import run_service

        run_service(project.settings, folder=project.root, bundle=bundle, port=port)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
