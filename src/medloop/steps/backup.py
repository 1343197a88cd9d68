"""A backup: the database, the journal's key and head, kept inputs, the spool and the model store, in one folder."""

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
from medloop.evaluate.ledger import LEDGER
from medloop.feedback import check_restored
from medloop.feedback.copies import Dumped, dump
from medloop.feedback.database import Places
from medloop.feedback.migrate import trace_of_journal
from medloop.settings import Settings, load_settings
from medloop.storage import atomic_folder, file_lock, read_json, sha256_file, write_json, write_text

FORMAT = 1
MANIFEST = "manifest.json"
# Git would take what lies in a project: patient data and keys.
IGNORE = ".gitignore"
RECIPE = ("params.yaml", "config.yaml")
SECRETS = ("secrets.yaml", ".env")
# What cannot be made again of the folder of work.
LASTING = ("edition.json", LEDGER)
DATABASE = {"sqlite": "feedback/feedback.db", "postgresql": "feedback/feedback.dump"}
KEY, HEAD, SPOOL, OUTBOX = "feedback/feedback.key", "feedback/feedback.head", "feedback/spool", "feedback/outbox"
INPUTS, MODELS, PROJECT, WORK = "inputs", "models", "project", "work"
LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup holds, and what it does not; `files` are checksums."""

    format: int
    medloop: str
    created: str
    database: Dumped | None
    left_out: tuple[str, ...]
    files: dict[str, str]

    @property
    def noted(self) -> str:
        """The journal's newest entry, as `medloop journal verify --noted` takes it."""
        return f"{self.database.seq}:{self.database.hash}" if self.database else ""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def back_up(root: Path, place: Path, *, secrets: bool = False) -> Manifest:
    """Copy into a new folder what a project cannot make again, while it is in use; whole or not at all."""
    check_restored(root)
    settings = load_settings(root)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(
            f"{place} already exists", found="something in it", hint="name a new folder: a backup replaces nothing"
        )
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
            raise UserError("Nothing to back up", found=f"no project in {root.name}", hint="go into the project first")
        write_json(target / MANIFEST, manifest.to_json())
        (target / MANIFEST).chmod(0o600)
    return manifest


def _copy_feedback(settings: Settings, root: Path, target: Path) -> tuple[Dumped | None, list[str]]:
    """The head and the spool go before the database, which may only be newer; inputs after it, for it names them."""
    places = Places.of(settings.feedback, root)
    copy_file(places.head, target / HEAD)
    copy_tree(places.spool, target / SPOOL)
    (target / "feedback").mkdir(exist_ok=True)
    database = dump(places, target / DATABASE[places.kind])
    if database is None and (trace := trace_of_journal(places.head, places.spool)) is not None:
        raise UserError(
            f"The feedback database is missing or empty, but {trace} shows that it held a journal",
            found=f"no tables in the database ({places.kind})",
            hint="restore it from an earlier backup, then back up again",
        )
    copy_file(places.key, target / KEY)
    copy_tree(places.outbox, target / OUTBOX)
    left_out = []
    if "://" in settings.feedback.inputs:
        left_out.append(f"kept inputs at {settings.feedback.inputs}")
    else:
        copy_tree(root / settings.feedback.inputs, target / INPUTS)
    if settings.feedback.journal_key is not None:
        left_out.append("the journal's key, which the settings have (feedback.journal_key)")
    return database, left_out


def _copy_models(settings: Settings, root: Path, target: Path) -> list[str]:
    if "://" in settings.models:
        return [f"the model store at {settings.models}"]
    store = root / settings.models
    if store.is_dir():
        # Under the store's own lock, so that the pointer and the versions are of one moment.
        with file_lock(store / ".lock"):
            copy_tree(store, target / MODELS)
    return []


def _copy_project(settings: Settings, root: Path, target: Path, *, secrets: bool) -> list[str]:
    # The public key goes along, without which nothing in the store could be checked.
    public = [key for key in (settings.signing.verify_key,) if key and not Path(key).is_absolute() and ".." not in key]
    for name in (*RECIPE, *public, *(SECRETS if secrets else ())):
        copy_file(root / name, target / PROJECT / name)
    for name in LASTING:
        copy_file(root / settings.work / name, target / WORK / name)
    left_out = [] if secrets else [f"{name} (--secrets takes it along)" for name in SECRETS if (root / name).is_file()]
    keys = {settings.signing.key, settings.signing.verify_key} - {None, *public}
    return left_out + [f"the signing key {key}" for key in sorted(map(str, keys))]


def copy_file(source: Path, target: Path, *, private: bool = True) -> None:
    """Copy a file and its time, for its owner alone unless said otherwise; one that has gone is passed over."""
    try:
        facts = source.stat()
        with source.open("rb") as reading:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)
            with os.fdopen(handle, "wb") as writing:
                shutil.copyfileobj(reading, writing)
    except FileNotFoundError:
        # Nothing was there, or it has expired or been sent since it was listed.
        return
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def copy_tree(source: Path, target: Path, *, private: bool = True) -> None:
    """Copy the files of a folder, but for those that are still being written."""
    for name in files_in(source):
        copy_file(source / name, target / name, private=private)


def files_in(folder: Path) -> Iterator[str]:
    """The files below a folder, by their names there, but for hidden folders and what is being written."""
    whole = folder.resolve()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_to(Path(place, name), whole)]
        for path in (Path(place, name) for name in names if not name.endswith((".partial", ".lock"))):
            if not _leads_to(path, whole):
                yield path.relative_to(folder).as_posix()


def _leads_to(path: Path, whole: Path) -> bool:
    """Whether it is a link to what is there under its own name, too."""
    return path.is_symlink() and path.resolve().is_relative_to(whole)


def read_backup(place: Path) -> Manifest:
    """What a backup holds, after every byte of it was checked."""
    if not (place / MANIFEST).is_file():
        raise UserError(
            f"{place} is not a backup", found=f"no {MANIFEST} in it", hint="name a folder that `medloop backup` made"
        )
    content = read_json(place / MANIFEST)
    try:
        if content["format"] != FORMAT:
            raise UserError(
                "The backup has a format that this medloop does not know",
                found=f"format {content['format']}, made by medloop {content['medloop']}",
                hint="install the medloop that made it",
            )
        database = Dumped(**content["database"]) if content["database"] else None
        left_out = tuple(content["left_out"])
        manifest = Manifest(**{**content, "database": database, "left_out": left_out})
        problems = sorted(_differences(place, dict(manifest.files)))
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{MANIFEST} is damaged", found=type(error).__name__, hint="use another backup") from error
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise UserError(
            "The backup is damaged", found="; ".join(problems[:LISTED]) + more, hint="use another backup or copy of it"
        )
    return manifest


def _differences(place: Path, expected: dict[str, str]) -> Iterator[str]:
    """How the files differ from the manifest."""
    paths = {path.relative_to(place).as_posix(): path for path in place.rglob("*")}
    found = {name for name, path in paths.items() if path.is_symlink() or not path.is_dir()}
    for name in found - {*expected, MANIFEST}:
        yield f"{name} is not in the manifest"
    for name, checksum in expected.items():
        if name not in found or paths[name].is_symlink():
            yield f"{name} is missing"
        elif sha256_file(paths[name]) != checksum:
            yield f"{name} has other bytes"
