"""The command line; a command holds no logic."""

from __future__ import annotations

import typer

from medloop.cli import (
    backup,
    bench,
    corrections,
    data,
    db,
    demo,
    doctor,
    journal,
    keys,
    loop,
    models,
    new,
    predict,
    serve,
)

app = typer.Typer(
    name="medloop",
    help="From labelled medical data to a classifier that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for group in (new, loop, data, predict, serve, backup, demo, doctor):
    group.add_to(app)
app.add_typer(models.app, name="models")
app.add_typer(corrections.app, name="corrections")
app.add_typer(journal.app, name="journal")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.add_typer(bench.app, name="bench")
