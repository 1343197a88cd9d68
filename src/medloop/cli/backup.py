"""`medloop backup` and `medloop restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medloop.cli.show import here, show_json
from medloop.errors import UserError
from medloop.times import local_time

if TYPE_CHECKING:
    from medloop.steps.restore import Restored

Place = Annotated[Path, typer.Argument(help="A new folder for the backup; it will hold patient data and a secret key.")]
Backup = Annotated[Path, typer.Argument(help="The folder that `medloop backup` made.")]
Secrets = Annotated[bool, typer.Option("--secrets", help="Take secrets.yaml and .env along.")]
Replace = Annotated[bool, typer.Option("--replace", help="Also where there is something, which is then kept aside.")]
Only = Annotated[str | None, typer.Option(help="Just one of them: database (with inputs and spool) or models.")]
Json = Annotated[bool, typer.Option("--json", help="For another program.")]


def backup(place: Place, secrets: Secrets = False, as_json: Json = False) -> None:
    """Copy the database, the journal's key, kept inputs and the model store, while the service runs."""
    from medloop.steps.backup import back_up

    manifest = back_up(here(), place, secrets=secrets)
    if as_json:
        show_json({"backup": str(place), "journal": manifest.noted, **manifest.to_json()})
        return
    typer.echo(f"{len(manifest.files)} files in {place}")
    typer.echo(f"journal up to entry {manifest.noted}" if manifest.noted else "no database yet")
    for what in manifest.left_out:
        typer.echo(f"left out: {what}")
    typer.echo("It holds patient data and the journal's secret key: keep it where only you can read it.")


def restore(place: Backup, overwrite: Replace = False, only: Only = None, as_json: Json = False) -> None:
    """Bring a backup into the project, after every byte of it was checked; stop the service first."""
    from medloop.steps.restore import restore as restore_backup

    _show(restore_backup(here(), place, overwrite=overwrite, only=only), as_json=as_json)


def _show(done: Restored, *, as_json: bool) -> None:
    if as_json:
        show_json(vars(done))
    else:
        lines = [f"restored {done.files} files of {local_time(done.created)}", done.journal, done.models]
        lines += [f"what was there is kept in {place}; remove it when you are sure" for place in done.aside]
        lines += [f"{name} here differs from the backup's and was left as it is" for name in done.kept]
        typer.echo("\n".join(filter(None, lines)))
    if done.problems:
        raise UserError(
            "The backup was restored, but its verification found problems",
            found="; ".join(done.problems),
            hint="run `medloop journal verify` and `medloop models verify`, or restore another backup; what an older "
            "medloop signed needs signing.key and `medloop models migrate`",
        )


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)
