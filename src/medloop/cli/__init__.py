"""The command line; the commands contain no logic."""

from __future__ import annotations

import typer

from medloop.cli import backup, feedback, models, project, serving, stages

app = typer.Typer(
    name="medloop",
    help="From labelled medical data to a classifier that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for group in (project, stages, serving, backup):
    group.add_to(app)
app.add_typer(models.app, name="models")
app.add_typer(feedback.corrections, name="corrections")
app.add_typer(feedback.journal, name="journal")
app.add_typer(feedback.keys, name="keys")
app.add_typer(feedback.database, name="db")
app.add_typer(serving.bench, name="bench")
