"""`medloop doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from medloop.cli.models import Json
from medloop.cli.show import here, show_json, show_table


def doctor(as_json: Json = False) -> None:
    """Say whether everything that medloop needs is there."""
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
    """Add the command."""
    app.command()(doctor)
