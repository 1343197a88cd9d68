"""`medloop demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.cli.new import make_project
from medloop.cli.show import here, show_done, show_table, start_log

if TYPE_CHECKING:
    from medloop.steps.project import Project

Folder = Annotated[Path, typer.Option(help="Where the demo's projects go.")]
Only = Annotated[str | None, typer.Option(help="Just one of them: breast-cancer or chest-ct.")]
Serve = Annotated[bool, typer.Option(help="Start the service at the end.")]
Port = Annotated[int, typer.Option(help="Port of the service.")]


def demo(folder: Folder = Path("medloop-demo"), only: Only = None, serve: Serve = True, port: Port = 8000) -> None:
    """The whole loop on a table and on scans, both embedded, then the service for the last of them."""
    from medloop.steps import demo as steps

    for name in steps.chosen(only):
        project, bundle = _learn(folder / name, like=name, port=port)
    if serve:
        from medloop.serve.run import run_service

        run_service(project.settings, folder=project.root, bundle=bundle, port=port, auth=False, say=typer.echo)


def _learn(folder: Path, *, like: str, port: int) -> tuple[Project, Path | None]:
    """One project: all stages, its figures, and what to open."""
    from medloop.steps import demo as steps
    from medloop.steps.project import load_project

    typer.secho(f"\n{like}", bold=True)
    if not (folder / "params.yaml").is_file():
        make_project(folder, like=like)
    project = load_project(here() / folder)
    start_log(project, "demo")
    for done in steps.run_demo(project):
        show_done(done)
    show_table(*steps.figures_table(project))
    bundle = steps.bundle_to_serve(project)
    typer.echo("\n".join(filter(None, [steps.heatmaps_hit(project), steps.what_to_open(project, bundle, port=port)])))
    return project, bundle


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
