"""`medloop db upgrade`, and how commands open the feedback database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import typer

from medloop.cli.show import here

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

app = typer.Typer(help="The database of predictions, corrections and the journal.", no_args_is_help=True)


@app.callback()
def db() -> None:
    """The database of predictions, corrections and the journal."""


@app.command()
def upgrade() -> None:
    """Bring the database to the form that this medloop knows; back it up first."""
    from medloop.feedback.migrate import NEWEST

    with opened(migrate=True):
        typer.echo(f"the feedback database is of form {NEWEST}")


@contextmanager
def opened(*, migrate: bool = False, begin: bool = False) -> Iterator[Feedback]:
    """The project's feedback store, for as long as a command takes; one is begun only where that is meant."""
    from medloop.feedback import open_feedback
    from medloop.settings import load_settings

    with closing(open_feedback(load_settings(here()).feedback, root=here(), migrate=migrate, begin=begin)) as feedback:
        yield feedback


def me() -> str:
    """Who gives the command."""
    from medloop.settings import load_settings
    from medloop.steps.project import who

    return who(load_settings(here()))
