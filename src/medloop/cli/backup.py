"""`medloop backup` and `medloop restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.cli.show import Json, here, show_json
from medloop.errors import UserError
from medloop.times import local_time

if TYPE_CHECKING:
    from medloop.steps.recovery.restore import Restored

Place = Annotated[Path, typer.Argument(help="A new folder for the backup, with patient data and a secret key.")]
Backup = Annotated[Path, typer.Argument(help="A folder that `medloop backup` created.")]
Secrets = Annotated[bool, typer.Option("--secrets", help="Include secrets.yaml and .env.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace what exists, which is kept under another name.")]
Only = Annotated[str | None, typer.Option(help="Only one part: database (with inputs and spool) or models.")]


def backup(place: Place, secrets: Secrets = False, as_json: Json = False) -> None:
    """Copy the database, the journal's key, kept inputs and the model store, while the service runs."""
    from medloop.steps.recovery.backup import back_up

    manifest = back_up(here(), place, secrets=secrets)
    if as_json:
        show_json({"backup": str(place), "journal": manifest.noted, **manifest.to_json()})
        return
    typer.echo(f"{len(manifest.files)} files in {place}")
    typer.echo(f"journal up to entry {manifest.noted}" if manifest.noted else "no database yet")
    for what in manifest.left_out:
        typer.echo(f"left out: {what}")
    typer.echo("It holds patient data and the journal's secret key: store it where only you can read it.")


def restore(place: Backup, overwrite: Replace = False, only: Only = None, as_json: Json = False) -> None:
    """Restore a backup into the project, after verifying every byte of it; stop the service first."""
    from medloop.steps.recovery.restore import restore as restore_backup

    _show(restore_backup(here(), place, overwrite=overwrite, only=only), as_json=as_json)


def _show(done: Restored, *, as_json: bool) -> None:
    if as_json:
        show_json(vars(done))
    else:
        lines = [f"restored {done.files} files of {local_time(done.created)}", done.journal, done.models]
        lines += [f"the previous content is kept in {place}; remove it when you are sure" for place in done.aside]
        lines += [f"{name} differs from the one in the backup and was not changed" for name in done.kept]
        typer.echo("\n".join(filter(None, lines)))
    if done.problems:
        raise UserError(
            f"The backup was restored, but its verification found problems: {'; '.join(done.problems)}.",
            "Run `medloop journal verify` and `medloop models verify`, or restore another backup; for what an older "
            "medloop signed, set signing.key and run `medloop models migrate`.",
        )


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)
