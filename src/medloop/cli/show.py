"""What the commands print."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from medloop.steps.pipeline import Done
    from medloop.steps.project import Project


def here() -> Path:
    """The folder that the command was given in."""
    from medloop.settings import hand_on_foreign_variables

    hand_on_foreign_variables(Path.cwd())
    return Path.cwd()


def show_done(done: Done) -> None:
    """One line a stage: its name, its time, its result."""
    from medloop.storage.names import visible

    # The name of a class may be any folder's.
    text = visible(done.text, keep="\n")
    time = "as before" if done.skipped else f"{done.seconds:.1f} s"
    typer.echo(f"{typer.style(f'{done.stage:<9}', bold=True)} {time:>9}  {text}")
    if done.why:
        typer.echo(f"{'':<20} {done.why}")
    logging.getLogger("medloop").info(
        "%s %s %s", done.stage, time, f"{done.text}; {done.why}" if done.why else done.text
    )


class PrivateLog(RotatingFileHandler):
    """A log that its owner alone can read, and that begins anew when it has become large."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=0o600)
        file = super()._open()
        # One that an earlier medloop began others could read, too.
        os.fchmod(file.fileno(), 0o600)
        return file


def start_log(project: Project, command: str) -> None:
    """Keep a log of the command in the project's folder of logs."""
    folder = project.root / project.settings.logs
    folder.mkdir(parents=True, exist_ok=True)
    settings = project.settings
    handler = PrivateLog(
        folder / f"{command}.log",
        encoding="utf-8",
        maxBytes=max(1, int(settings.log_mib * 2**20)),
        backupCount=settings.log_files,
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S%z"))
    log = logging.getLogger("medloop")
    for old in log.handlers:
        old.close()
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def show_json(content: Any) -> None:
    """The answer for another program."""
    typer.echo(json.dumps(content, indent=2, default=str))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns that line up."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        typer.echo(typer.style(text, bold=number == 0))
