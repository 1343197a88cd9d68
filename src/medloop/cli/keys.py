"""`medloop keys`: create, list, revoke."""

from __future__ import annotations

from typing import Annotated

import typer

from medloop.cli.db import me, opened
from medloop.cli.show import show_json, show_table
from medloop.times import local_time

app = typer.Typer(help="API keys: who may ask the service for what.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The person or program that will hold the key.")]
Role = Annotated[str, typer.Option(help="reader, reviewer, operator or admin; each may do what those before it may.")]
Days = Annotated[int | None, typer.Option(min=1, help="How long the key is good for (default: until revoked).")]


@app.command()
def create(name: Name, role: Role = "reader", days: Days = None) -> None:
    """Make a key and print its secret, which is shown this once."""
    with opened(begin=True) as feedback:
        key, secret = feedback.keys.create(name, role, days=days, by=me())  # type: ignore[arg-type]  # it is checked
    typer.echo(f"key {key.id} for {key.name}, {key.role}; send it as a bearer token or X-API-Key", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False) -> None:
    """All keys, without their secrets."""
    with opened() as feedback:
        rows = [{name: value or "" for name, value in vars(key).items()} for key in feedback.keys.list()]
    if as_json:
        show_json(rows)
    else:
        header, times = ("id", "name", "role", "created", "expires", "revoked"), {"created", "expires", "revoked"}
        show_table(header, [[local_time(row[one]) if one in times else row[one] for one in header] for row in rows])


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `medloop keys list` shows it.")]) -> None:
    """End a key for good; running services refuse it within a second."""
    with opened() as feedback:
        key = feedback.keys.revoke(key_id, by=me())
    typer.echo(f"key {key.id} for {key.name} is revoked")
