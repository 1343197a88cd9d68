"""Backup: database, journal key and head, stored inputs, spool and model store, copied to one folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medloop
from medloop.errors import UserError
from medloop.feedback import check_restored
from medloop.feedback.copies import DatabaseCopy, dump
from medloop.feedback.db.database import Places
from medloop.feedback.journal.head import trace_of_journal
from medloop.gate.ledger import LEDGER
from medloop.settings import Settings, load_settings
from medloop.storage import atomic_folder, file_lock, read_json, sha256_file, write_json, write_text

FORMAT = 1
MANIFEST = "manifest.json"
# Keeps patient data and keys out of Git where the backup is inside a project.
IGNORE = ".gitignore"
RECIPE = ("params.yaml", "config.yaml")
SECRETS = ("secrets.yaml", ".env")
# What cannot be recreated in the work folder.
LASTING = ("edition.json", LEDGER)
DATABASE = {"sqlite": "feedback/feedback.db", "postgresql": "feedback/feedback.dump"}
KEY, HEAD, SPOOL, OUTBOX = "feedback/feedback.key", "feedback/feedback.head", "feedback/spool", "feedback/outbox"
INPUTS, MODELS, PROJECT, WORK = "inputs", "models", "project", "work"
MAX_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of a backup and what it leaves out; `files` are checksums."""

    format: int
    medloop: str
    created: str
    database: DatabaseCopy | None
    left_out: tuple[str, ...]
    files: dict[str, str]

    @property
    def noted(self) -> str:
        """Return the journal's newest entry in the form of `medloop journal verify --noted`."""
        return f"{self.database.seq}:{self.database.hash}" if self.database else ""

    def to_json(self) -> dict[str, Any]:
        """Return the content for JSON."""
        return asdict(self)


def back_up(root: Path, place: Path, *, secrets: bool = False) -> Manifest:
    """Copy what a project cannot recreate to a new folder, while it is in use; all of it or nothing."""
    check_restored(root)
    settings = load_settings(root)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{place} already exists and is not empty.", "Name a new folder: a backup replaces nothing.")
    with atomic_folder(place) as target:
        target.chmod(0o700)
        write_text(target / IGNORE, "*\n")
        (target / IGNORE).chmod(0o600)
        database, left_out = _copy_feedback(settings, root, target)
        left_out += _copy_models(settings, root, target) + _copy_project(settings, root, target, secrets=secrets)
        manifest = Manifest(
            format=FORMAT,
            medloop=medloop.__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            database=database,
            left_out=tuple(left_out),
            files={name: sha256_file(target / name) for name in sorted(files_in(target))},
        )
        if set(manifest.files) <= {IGNORE}:
            raise UserError(
                f"Nothing to back up: there is no project in {root.name}.", "Change to the project's folder."
            )
        write_json(target / MANIFEST, manifest.to_json())
        (target / MANIFEST).chmod(0o600)
    return manifest


def _copy_feedback(settings: Settings, root: Path, target: Path) -> tuple[DatabaseCopy | None, list[str]]:
    """Copy head and spool before the database, which may only be newer, and inputs after it, since it names them."""
    places = Places.of(settings.feedback, root)
    copy_file(places.head, target / HEAD)
    copy_tree(places.spool, target / SPOOL)
    (target / "feedback").mkdir(exist_ok=True)
    database = dump(places, target / DATABASE[places.kind])
    if database is None and (trace := trace_of_journal(places.head, places.spool)) is not None:
        raise UserError(
            f"The feedback database ({places.kind}) is missing or empty, but {trace} shows that it held a journal.",
            "Restore it from an earlier backup, then back up again.",
        )
    copy_file(places.key, target / KEY)
    copy_tree(places.outbox, target / OUTBOX)
    left_out = []
    if "://" in settings.feedback.inputs:
        left_out.append(f"stored inputs at {settings.feedback.inputs}")
    else:
        copy_tree(root / settings.feedback.inputs, target / INPUTS)
    if settings.feedback.journal_key is not None:
        left_out.append("the journal's key, which is in the settings (feedback.journal_key)")
    return database, left_out


def _copy_models(settings: Settings, root: Path, target: Path) -> list[str]:
    if "://" in settings.models:
        return [f"the model store at {settings.models}"]
    store = root / settings.models
    if store.is_dir():
        # Under the store's own lock, so that pointer and versions are consistent.
        with file_lock(store / ".lock"):
            copy_tree(store, target / MODELS)
    return []


def _copy_project(settings: Settings, root: Path, target: Path, *, secrets: bool) -> list[str]:
    # The public key is included, since nothing in the store could be verified without it.
    public = [key for key in (settings.signing.verify_key,) if key and not Path(key).is_absolute() and ".." not in key]
    for name in (*RECIPE, *public, *(SECRETS if secrets else ())):
        copy_file(root / name, target / PROJECT / name)
    for name in LASTING:
        copy_file(root / settings.work / name, target / WORK / name)
    left_out = [] if secrets else [f"{name} (--secrets includes it)" for name in SECRETS if (root / name).is_file()]
    keys = {settings.signing.key, settings.signing.verify_key} - {None, *public}
    return left_out + [f"the signing key {key}" for key in sorted(map(str, keys))]


def copy_file(source: Path, target: Path, *, private: bool = True) -> None:
    """Copy a file with its times, by default readable by its owner only; skip one that has disappeared."""
    try:
        facts = source.stat()
        with source.open("rb") as reading:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)
            with os.fdopen(handle, "wb") as writing:
                shutil.copyfileobj(reading, writing)
    except FileNotFoundError:
        # There was none, or it has expired or been delivered since it was listed.
        return
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def copy_tree(source: Path, target: Path, *, private: bool = True) -> None:
    """Copy the files of a folder, except those still being written."""
    for name in files_in(source):
        copy_file(source / name, target / name, private=private)


def files_in(folder: Path) -> Iterator[str]:
    """Yield the relative paths below a folder, without hidden folders and files still being written."""
    whole = folder.resolve()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_to(Path(place, name), whole)]
        for path in (Path(place, name) for name in names if not name.endswith((".partial", ".lock"))):
            if not _leads_to(path, whole):
                yield path.relative_to(folder).as_posix()


def _leads_to(path: Path, whole: Path) -> bool:
    """Return whether the path is a link to something within the folder itself."""
    return path.is_symlink() and path.resolve().is_relative_to(whole)


def read_backup(place: Path) -> Manifest:
    """Return the manifest of a backup, after verifying every checksum."""
    if not (place / MANIFEST).is_file():
        raise UserError(f"{place} is not a backup: it has no {MANIFEST}.", "Name a folder written by `medloop backup`.")
    content = read_json(place / MANIFEST)
    try:
        if content["format"] != FORMAT:
            raise UserError(
                f"The backup has format {content['format']}, written by medloop {content['medloop']}; this medloop "
                f"reads format {FORMAT}.",
                "Install the medloop that wrote it.",
            )
        database = DatabaseCopy(**content["database"]) if content["database"] else None
        left_out = tuple(content["left_out"])
        manifest = Manifest(**{**content, "database": database, "left_out": left_out})
        problems = sorted(_differences(place, dict(manifest.files)))
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{MANIFEST} is damaged ({type(error).__name__}).", "Use another backup.") from error
    if problems:
        more = f" and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        listed = "; ".join(problems[:MAX_LISTED])
        raise UserError(f"The backup is damaged: {listed}{more}.", "Use another backup, or another copy of it.")
    return manifest


def _differences(place: Path, expected: dict[str, str]) -> Iterator[str]:
    """Yield how the files differ from the manifest."""
    paths = {path.relative_to(place).as_posix(): path for path in place.rglob("*")}
    found = {name for name, path in paths.items() if path.is_symlink() or not path.is_dir()}
    for name in found - {*expected, MANIFEST}:
        yield f"{name} is not in the manifest"
    for name, checksum in expected.items():
        if name not in found or paths[name].is_symlink():
            yield f"{name} is missing"
        elif sha256_file(paths[name]) != checksum:
            yield f"{name} has changed"
