"""`medloop corrections`: list, accept, reject, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medloop.cli.db import me, opened
from medloop.cli.show import show_json, show_table
from medloop.times import local_time

app = typer.Typer(help="What people say of predictions, and what others decided on it.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The correction's id.")]
Reason = Annotated[str, typer.Option(help="Why.")]
State = Annotated[str | None, typer.Option(help="Only those that are pending, accepted, rejected or second_reader.")]
Json = Annotated[bool, typer.Option("--json", help="For another program.")]


@app.command("list")
def list_corrections(
    state: State = None, limit: Annotated[int, typer.Option(min=1)] = 100, as_json: Json = False
) -> None:
    """Corrections, oldest first."""
    with opened() as feedback:
        rows = [vars(one) for one in feedback.corrections(state=state, limit=limit)]
    if as_json:
        show_json(rows)
    else:
        header = ("id", "prediction_id", "label", "who", "when", "state")
        shown = [{**row, "when": local_time(row["when"])} for row in rows]
        show_table(header, [tuple(str(row[name]) for name in header) for row in shown])


@app.command()
def accept(correction_id: Id, reason: Reason = "") -> None:
    """Accept a correction that somebody else made."""
    with opened() as feedback:
        typer.echo(f"{correction_id}: {feedback.review(correction_id, 'accepted', me(), reason).state}")


@app.command()
def reject(correction_id: Id, reason: Reason = "") -> None:
    """Reject a correction that somebody else made."""
    with opened() as feedback:
        typer.echo(f"{correction_id}: {feedback.review(correction_id, 'rejected', me(), reason).state}")


@app.command()
def export(out: Annotated[Path, typer.Argument(help="Where the cases go: .csv or .parquet.")]) -> None:
    """Write the accepted corrections as labelled cases."""
    with opened() as feedback:
        typer.echo(f"{feedback.export_corrections(out)} cases; see {out}")
