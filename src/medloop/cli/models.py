"""`medloop models`: list, show, promote, roll back, set the reference version, verify and migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medloop.cli.show import Json, here, show_json, show_table
from medloop.times import local_time

if TYPE_CHECKING:
    from medloop.steps.project import Project

app = typer.Typer(help="Registered versions, and which one serves.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="The version's number.")]


def _project() -> Project:
    from medloop.steps.project import load_project

    return load_project(here())


@app.command("list")
def list_versions(as_json: Json = False) -> None:
    """List all versions, and which one serves."""
    from medloop.steps.versions import overview

    rows = overview(_project())
    if as_json:
        show_json(rows)
    elif rows:
        shown = [{**row, "created": local_time(row["created"])} for row in rows]
        show_table(tuple(rows[0]), [tuple(row.values()) for row in shown])
    else:
        typer.echo("No version is registered yet. Run `medloop run`.")


@app.command()
def show(number: Number, as_json: Json = False) -> None:
    """Show the model card of a version and the verdict of the gate."""
    from medloop.cli.verdict import show_verdict
    from medloop.steps.versions import facts_of, store_of

    project = _project()
    facts = facts_of(project, number)
    if as_json:
        show_json(facts)
        return
    by, when = facts["by"] or "unknown", local_time(facts["created"])
    typer.echo(f"{facts['card']}\nVersion {number}, by {by}, {when}\n")
    show_verdict(store_of(project).version(number).verdict)


@app.command()
def promote(number: Number, as_json: Json = False) -> None:
    """Make a version that passed the gate the champion, which serves."""
    from medloop.steps.versions import promote as promote_version

    _show_champion(promote_version(_project(), number), as_json=as_json)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Return to the version that served before."""
    from medloop.steps.versions import rollback as roll_back

    _show_champion(roll_back(_project()), as_json=as_json)


@app.command()
def reference(number: Number, as_json: Json = False) -> None:
    """Make the champion the reference version for non-inferiority; takes a second person."""
    from medloop.steps.versions import set_reference

    facts = set_reference(_project(), number)
    if as_json:
        show_json(facts)
        return
    before = f", instead of version {facts['previous']}" if facts["previous"] else ""
    notes = "; ".join(filter(None, (facts["journal"], facts["mirror"])))
    typer.echo(f"version {facts['version']} is the reference version{before}; {notes}")


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring a model store that an older medloop created up to date."""
    from medloop.steps.versions import migrate as migrate_store

    facts = migrate_store(_project())
    if as_json:
        show_json(facts)
        return
    if (found := facts["reference"]) is not None:
        typer.echo(f"version {found['version']} was recorded as the reference version")
    for number in facts["signed"]:
        typer.echo(f"version {number} is now signed as a whole; before, the signature covered only its bundle")
    for line in facts["not_signed"]:
        typer.echo(f"not signed as a whole: {line}")
    if not any(facts.values()):
        typer.echo("nothing to migrate")


@app.command()
def verify(as_json: Json = False) -> None:
    """Verify every byte of every version, and repair the pointer and its copies."""
    from medloop.steps.versions import verify as verify_store

    lines = verify_store(_project())
    if as_json:
        show_json({"problems": [], "versions": lines})
        return
    for line in lines or ["No version is registered yet."]:
        typer.echo(line)


def _show_champion(champion: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(champion)
        return
    if champion["repaired"]:
        typer.echo(champion["repaired"])
    before = f"; version {champion['previous']} served before" if champion["previous"] else ""
    typer.echo(f"version {champion['version']} serves{before}; {champion['journal']}; {champion['mirror']}")
