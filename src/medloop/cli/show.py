"""Output of the commands."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medloop.steps.pipeline import Done
    from medloop.steps.project import Project


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def here() -> Path:
    """Return the current folder, after passing variables in its .env on to other tools."""
    from medloop.settings import pass_on_foreign_variables

    pass_on_foreign_variables(Path.cwd())
    return Path.cwd()


def show_done(done: Done) -> None:
    """Print a line for a stage: its name, its time and its result."""
    from medloop.storage.names import visible

    # A class name may come from the name of any folder.
    text = visible(done.text, keep="\n")
    time = "unchanged" if done.skipped else f"{done.seconds:.1f} s"
    typer.echo(f"{typer.style(f'{done.stage:<9}', bold=True)} {time:>9}  {text}")
    if done.why:
        typer.echo(f"{'':<20} {done.why}")
    logging.getLogger("medloop").info(
        "%s %s %s", done.stage, time, f"{done.text}; {done.why}" if done.why else done.text
    )


class PrivateLog(RotatingFileHandler):
    """A log that only its owner can read, rotated by size."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=0o600)
        file = super()._open()
        # One that an older medloop created may be readable by others.
        os.fchmod(file.fileno(), 0o600)
        return file


def start_log(project: Project, command: str) -> None:
    """Log the command to a file in the project's log folder."""
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
    """Print the result as JSON."""
    typer.echo(json.dumps(content, indent=2, default=str))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        typer.echo(typer.style(text, bold=number == 0))
