"""`medloop new`, `demo` and `doctor`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.cli.show import Json, here, show_done, show_json, show_table, start_log
from medloop.scaffold.project import LIKE, write_project

if TYPE_CHECKING:
    from medloop.steps.project import Project

Name = Annotated[str, typer.Argument(help="Name and folder of the project.")]
Like = Annotated[str, typer.Option(help=f"The template: {', '.join(LIKE)}.")]
Data = Annotated[str | None, typer.Option(help="A CSV file with training data (path or URL).")]
Label = Annotated[str | None, typer.Option(help="The column with the class, for --data.")]
Folder = Annotated[Path, typer.Option(help="Folder for the projects of the demo.")]
Only = Annotated[str | None, typer.Option(help="Only one of them: breast-cancer or chest-ct.")]
Serve = Annotated[bool, typer.Option(help="Start the service at the end.")]
Port = Annotated[int, typer.Option(help="Port of the service.")]


def new(name: Name, like: Like = "breast-cancer", data: Data = None, label: Label = None) -> None:
    """Create a project: a recipe, settings and a pipeline; no Python to edit."""
    folder = make_project(Path(name), like=like, data=data, label=label)
    typer.echo(f"created {folder.name}/ - next: cd {folder.name} && medloop run")


def make_project(folder: Path, *, like: str, data: str | None = None, label: str | None = None) -> Path:
    """Create a project and return its folder."""
    from medloop.steps.dvc import generated_files, write_lock
    from medloop.steps.project import load_project

    made = write_project(folder.resolve(), like=like, data=data, label=label, generated=generated_files(data))
    write_lock(load_project(made))
    return made


def demo(folder: Folder = Path("medloop-demo"), only: Only = None, serve: Serve = True, port: Port = 8000) -> None:
    """Run the whole loop on built-in tabular data and scans, then serve the last model."""
    from medloop.steps import demo as steps

    for name in steps.chosen(only):
        project, bundle = _learn(folder / name, like=name, port=port)
    if serve:
        from medloop.serve.run import run_service

        run_service(project.settings, folder=project.root, bundle=bundle, port=port, auth=False, say=typer.echo)


def _learn(folder: Path, *, like: str, port: int) -> tuple[Project, Path | None]:
    """Run all stages of a project, and print its metrics and what to open."""
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


def doctor(as_json: Json = False) -> None:
    """Check that everything medloop needs is available."""
    from medloop.steps.doctor import examine

    checks = examine(here())
    if as_json:
        show_json([asdict(one) for one in checks])
    else:
        words = {True: "ok", False: "NO", None: ""}
        show_table(("", "what", "found"), [(words[one.ok], one.what, one.found) for one in checks])
    if any(one.ok is False for one in checks):
        raise typer.Exit(2)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (new, demo, doctor):
        app.command()(command)
