"""`medloop corrections`, `journal`, `keys` and `db`: the groups of commands on the feedback database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.cli.show import Json, here, show_json, show_table
from medloop.times import local_time

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

corrections = typer.Typer(help="Corrections of predictions, and their review.", no_args_is_help=True)
journal = typer.Typer(help="The tamper-evident record of predictions, corrections and decisions.", no_args_is_help=True)
keys = typer.Typer(help="API keys: who may use which functions of the service.", no_args_is_help=True)
database = typer.Typer(help="The database of predictions, corrections and the journal.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of the correction.")]
Reason = Annotated[str, typer.Option(help="The reason.")]
State = Annotated[str | None, typer.Option(help="Only this state: pending, accepted, rejected or second_reader.")]
Noted = Annotated[str | None, typer.Option("--noted", help="A head that an earlier run printed: NUMBER:HASH.")]
Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle, if it is not in the model store.")]
Name = Annotated[str, typer.Argument(help="The person or program that will use the key.")]
Role = Annotated[str, typer.Option(help="reader, reviewer, operator or admin; each includes the ones before it.")]
Days = Annotated[int | None, typer.Option(min=1, help="Days until the key expires (default: never).")]


@corrections.command("list")
def list_corrections(
    state: State = None, limit: Annotated[int, typer.Option(min=1)] = 100, as_json: Json = False
) -> None:
    """List corrections, oldest first."""
    with open_store() as feedback:
        rows = [vars(one) for one in feedback.corrections(state=state, limit=limit)]
    if as_json:
        show_json(rows)
    else:
        header = ("id", "prediction_id", "label", "who", "when", "state")
        shown = [{**row, "when": local_time(row["when"])} for row in rows]
        show_table(header, [tuple(str(row[name]) for name in header) for row in shown])


@corrections.command()
def accept(correction_id: Id, reason: Reason = "") -> None:
    """Accept a correction that somebody else made."""
    with open_store() as feedback:
        typer.echo(f"{correction_id}: {feedback.review(correction_id, 'accepted', current_user(), reason).state}")


@corrections.command()
def reject(correction_id: Id, reason: Reason = "") -> None:
    """Reject a correction that somebody else made."""
    with open_store() as feedback:
        typer.echo(f"{correction_id}: {feedback.review(correction_id, 'rejected', current_user(), reason).state}")


@corrections.command()
def export(out: Annotated[Path, typer.Argument(help="Output file: .csv or .parquet.")]) -> None:
    """Write the accepted corrections as labelled cases."""
    with open_store() as feedback:
        typer.echo(f"{feedback.export_corrections(out)} cases; see {out}")


@journal.command()
def verify(noted: Noted = None) -> None:
    """Check whether the journal was edited, truncated, reordered or rebuilt."""
    from medloop.steps.replay import verify as verify_journal

    with open_store() as feedback:
        typer.echo(verify_journal(feedback, noted=noted))


@journal.command()
def replay(prediction_id: Annotated[str, typer.Argument(help="Id of the prediction.")], bundle: Bundle = None) -> None:
    """Compute a past prediction again and compare it with the stored one."""
    from medloop.registry.mirror import open_store as open_models
    from medloop.settings import load_settings
    from medloop.steps.replay import replay as compute_again

    with open_store() as feedback:
        found = compute_again(feedback, prediction_id, models=open_models(load_settings(here()), here()), bundle=bundle)
    label = found.again.label or f"abstained ({found.again.reason})"
    when = local_time(found.stored.at)
    typer.echo(f"{label}, the same as on {when}; largest difference {found.difference:.2g}")


@keys.command()
def create(name: Name, role: Role = "reader", days: Days = None) -> None:
    """Create a key and print its secret, which is shown only once."""
    with open_store(begin=True) as feedback:
        key, secret = feedback.keys.create(name, role, days=days, by=current_user())  # type: ignore[arg-type]  # it is checked
    typer.echo(f"key {key.id} for {key.name}, {key.role}; send it as a bearer token or X-API-Key", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List all keys, without their secrets."""
    with open_store() as feedback:
        rows = [{name: value or "" for name, value in vars(key).items()} for key in feedback.keys.list()]
    if as_json:
        show_json(rows)
    else:
        header, times = ("id", "name", "role", "created", "expires", "revoked"), {"created", "expires", "revoked"}
        show_table(header, [[local_time(row[one]) if one in times else row[one] for one in header] for row in rows])


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="Id of the key, see `medloop keys list`.")]) -> None:
    """Revoke a key for good; running services refuse it within a second."""
    with open_store() as feedback:
        key = feedback.keys.revoke(key_id, by=current_user())
    typer.echo(f"key {key.id} for {key.name} is revoked")


@database.callback()
def db() -> None:
    """The database of predictions, corrections and the journal."""


@database.command()
def upgrade() -> None:
    """Upgrade the database to the schema of this medloop; back it up first."""
    from medloop.feedback.db.migrate import NEWEST

    with open_store(migrate=True):
        typer.echo(f"the feedback database has schema version {NEWEST}")


@contextmanager
def open_store(*, migrate: bool = False, begin: bool = False) -> Iterator[Feedback]:
    """Open the project's feedback store for a command; a new one is created only with `begin`."""
    from medloop.feedback import open_feedback
    from medloop.settings import load_settings

    with closing(open_feedback(load_settings(here()).feedback, root=here(), migrate=migrate, begin=begin)) as feedback:
        yield feedback


def current_user() -> str:
    """Return the name of the user who runs the command."""
    from medloop.settings import load_settings
    from medloop.steps.project import who

    return who(load_settings(here()))
