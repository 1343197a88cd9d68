"""The model store: list, show, promote, roll back, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from medloop.cli.show import here, show_json, show_table

app = typer.Typer(help="Registered versions, and which of them serves.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="The version's number.")]
Json = Annotated[bool, typer.Option("--json", help="For another program.")]


@app.command("list")
def list_versions(as_json: Json = False) -> None:
    """All versions, and the one that serves."""
    from medloop.steps.project import load_project
    from medloop.steps.versions import overview

    rows = overview(load_project(here()))
    if as_json:
        show_json(rows)
    else:
        show_table(("version", "serves", "gate", "created", "bundle"), [tuple(row.values()) for row in rows])


@app.command()
def show(number: Number) -> None:
    """The card of one version."""
    from medloop.registry.store import ModelStore
    from medloop.steps.project import load_project

    version = ModelStore(load_project(here()).models).version(number)
    typer.echo((version.folder / "card.md").read_text("utf-8"))


@app.command()
def promote(number: Number) -> None:
    """Let a version serve that passed the gate."""
    from medloop.steps.project import load_project
    from medloop.steps.versions import promote as promote_version

    show_json(promote_version(load_project(here()), number))


@app.command()
def rollback() -> None:
    """Let the version serve that served before."""
    from medloop.steps.project import load_project
    from medloop.steps.versions import rollback as roll_back

    show_json(roll_back(load_project(here())))


@app.command()
def verify() -> None:
    """Check every byte of every version and repair the mirrors of the pointer."""
    from medloop.steps.project import load_project
    from medloop.steps.versions import verify as verify_store

    for line in verify_store(load_project(here())):
        typer.echo(line)
