"""Bringing a backup into a project: whole or not at all, what was there kept aside, a kill in between made good."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medloop.errors import UnknownName, UserError
from medloop.feedback import UNFINISHED, open_feedback
from medloop.feedback.copies import (
    check_programs,
    has_content,
    has_schema,
    is_in_use,
    load_tables,
    set_tables_aside,
)
from medloop.feedback.database import Places
from medloop.feedback.head import read_head
from medloop.feedback.migrate import NEWEST
from medloop.registry.store import ModelStore
from medloop.settings import Settings, load_settings
from medloop.steps import backup
from medloop.steps.backup import Manifest, copy_file, copy_tree, files_in, read_backup
from medloop.steps.journal import DURABLE_S, verify
from medloop.steps.swap import Swap
from medloop.storage import file_lock, read_json, sha256_file, write_json
from medloop.times import local_time

PARTS = ("database", "models")


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was restored, what it took the place of, and what the checks say of it."""

    backup: str
    created: str
    files: int
    aside: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    journal: str = ""
    models: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes where."""

    root: Path
    place: Path
    settings: Settings
    manifest: Manifest
    parts: tuple[str, ...]
    began: str

    @property
    def places(self) -> Places:
        """Where the feedback store lies."""
        return Places.of(self.settings.feedback, self.root)

    @property
    def store(self) -> Path:
        """The model store."""
        return self.root / self.settings.models

    @property
    def has_database(self) -> bool:
        """Whether a database is to be restored."""
        return self.manifest.database is not None and "database" in self.parts

    @property
    def has_tables(self) -> bool:
        """Whether the database is a server's."""
        return self.has_database and self.places.file is None

    @property
    def has_models(self) -> bool:
        """Whether a model store is to be restored."""
        return (self.place / backup.MODELS).is_dir() and "models" in self.parts

    @property
    def stamp(self) -> str:
        """What the names of what is kept aside end in."""
        return datetime.fromisoformat(self.began).strftime("%Y%m%dT%H%M%S%f")

    @property
    def schema(self) -> str:
        """Where tables of a server are kept aside."""
        return f"medloop_before_restore_{self.stamp}"

    def swaps(self) -> list[Swap]:
        """What takes the place of something else, the database's files at the end."""
        aside, swaps = f".before-restore-{self.stamp}", []
        if self.has_models:
            swaps.append(Swap(folder=self.store, aside=aside, others=self._old_models))
        if self.has_database:
            last = self.places.file.name if self.places.file else ""
            swaps.append(Swap(folder=self.places.key.parent, aside=aside, others=self._old_log, last=last))
        return swaps

    def _old_models(self) -> list[str]:
        return [path.name for path in self.store.glob("*") if not path.name.startswith(".")]

    def _old_log(self) -> list[str]:
        file = self.places.file
        return [f"{file.name}{end}" for end in ("-wal", "-shm")] if file else []

    def journal_files(self) -> dict[str, Path]:
        """The key, the head and the database's file in the backup, by the names that they get."""
        places = self.places
        found = {places.key.name: self.place / backup.KEY, places.head.name: self._newest_head()}
        if places.file is not None:
            found[places.file.name] = self.place / backup.DATABASE[places.kind]
        return {name: path for name, path in found.items() if path.is_file()}

    def _newest_head(self) -> Path:
        """The head of this journal that tells of most entries: the backup's, the one here, or one put aside earlier."""
        places, dumped = self.places, self.manifest.database
        folders = [places.head.parent, *places.head.parent.glob(".before-restore-*")]
        newest, seq = self.place / backup.HEAD, dumped.seq if dumped is not None else 0
        for folder in folders:
            head = read_head(folder / places.head.name)
            if head is not None and head.seq > seq and self._has_same_key(folder / places.key.name):
                newest, seq = folder / places.head.name, head.seq
        return newest

    def _has_same_key(self, key: Path) -> bool:
        there = self.place / backup.KEY
        return key.read_bytes() == there.read_bytes() if key.is_file() and there.is_file() else not key.is_file()


def restore(root: Path, place: Path, *, overwrite: bool = False, only: str | None = None) -> Restored:
    """Bring a backup into a project, or go on with what was killed; nothing that was there is deleted."""
    if only is not None and only not in PARTS:
        raise UnknownName("--only", only, PARTS)
    manifest = read_backup(place)
    with file_lock(root / f"{UNFINISHED}.lock", wait=False):
        started = _started(root, place, only)
        plan = Plan(
            root=root,
            place=place,
            settings=_settings(root, place),
            manifest=manifest,
            parts=(only,) if only else PARTS,
            began=started["began"] if started else datetime.now(UTC).isoformat(),
        )
        _check(plan, overwrite=overwrite or bool(started))
        if not started:
            _stage(plan)
            started = {"backup": sha256_file(place / backup.MANIFEST), "only": only, "began": plan.began}
            write_json(root / UNFINISHED, started)
        kept = _add(plan)
        if "aside" not in started:
            _set_aside(plan)
            write_json(root / UNFINISHED, {**started, "aside": True})
        _put(plan)
        os.sync()
        done = Restored(backup=str(place), created=manifest.created, files=len(manifest.files), kept=kept)
        done = _examine(plan, replace(done, aside=_aside(plan)))
        (root / UNFINISHED).unlink()
    return done


def _started(root: Path, place: Path, only: str | None) -> dict[str, Any]:
    """What a restore that was killed has noted; empty where there was none."""
    if not (root / UNFINISHED).is_file():
        return {}
    started: dict[str, Any] = read_json(root / UNFINISHED)
    if (started["backup"], started["only"]) != (sha256_file(place / backup.MANIFEST), only):
        raise UserError(
            "Another restore was interrupted here and must be finished first",
            found=f"one that began at {local_time(started['began'])}"
            + (f", --only {started['only']}" if started["only"] else ""),
            hint="run that `medloop restore` again, with the same backup and options",
        )
    return started


def _settings(root: Path, place: Path) -> Settings:
    """The settings that the project will have: its own files, and the backup's where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (*backup.RECIPE, *backup.SECRETS):
            here = root / name
            copy_file(here if here.is_file() else place / backup.PROJECT / name, Path(folder) / name)
        return load_settings(Path(folder))


def _check(plan: Plan, *, overwrite: bool) -> None:
    """Refuse what could not be done, or would take the place of something unasked."""
    if outside := _outside(plan):
        raise UserError(
            "The backup's config.yaml names places outside this folder, which another project may be using",
            found=", ".join(outside),
            hint="copy it here (project/config.yaml in the backup), name the places that this project shall use, "
            "and restore again",
        )
    if plan.has_models and "://" in plan.settings.models:
        raise UserError(
            "The model store can only be restored into a folder",
            found=plan.settings.models,
            hint="restore it in the project that copies it there, and here with --only database",
        )
    if plan.has_database:
        _check_kind(plan)
    database = plan.places.url.render_as_string(hide_password=True)
    there = [f"the database {database}"] if plan.has_database and has_content(plan.places) else []
    there += [f"the model store {plan.store}"] if plan.has_models and any(plan.store.glob("[!.]*")) else []
    if there and not overwrite:
        raise UserError(
            "The project is not empty",
            found=" and ".join(there),
            hint="restore into a new folder, or add --replace: what is there is then kept aside",
        )
    if plan.has_database and is_in_use(plan.places):
        raise UserError(
            "The database is in use",
            found="another process that has it open",
            hint="stop the service and every other medloop command, then try again",
        )


def _outside(plan: Plan) -> list[str]:
    """What the backup's settings, and not the project's own, place outside the project."""
    theirs, own, root = plan.settings, load_settings(plan.root), plan.root.resolve()
    places = {
        "feedback.url": (plan.places.file or "://", theirs.feedback.url == own.feedback.url),
        "feedback.head": (theirs.feedback.head, theirs.feedback.head == own.feedback.head),
        "feedback.inputs": (theirs.feedback.inputs, theirs.feedback.inputs == own.feedback.inputs),
        "models": (theirs.models, theirs.models == own.models),
        "mirror": (theirs.mirror, theirs.mirror == own.mirror),
    }
    return [
        name
        for name, (place, is_own) in places.items()
        if place is not None
        and not is_own
        and ("://" in str(place) or not (root / place).resolve().is_relative_to(root))
    ]


def _check_kind(plan: Plan) -> None:
    dumped, places = plan.manifest.database, plan.places
    assert dumped is not None  # noqa: S101 - the caller has looked
    if dumped.form > NEWEST:
        raise UserError(
            "The backup's database is newer than this medloop",
            found=f"form {dumped.form}, and this medloop knows {NEWEST}",
            hint=f"install medloop {plan.manifest.medloop}",
        )
    if dumped.kind != places.kind:
        raise UserError(
            f"The backup is of a {dumped.kind} database",
            found=f"feedback.url names a {places.kind} database",
            hint="set feedback.url (MEDLOOP_FEEDBACK__URL) to a database of the same kind",
        )
    if places.file is None:
        check_programs("pg_restore")


def _stage(plan: Plan) -> None:
    """Copy everything that takes the place of something, so that nothing but moves is left to do."""
    swaps = plan.swaps()
    try:
        for swap in swaps:
            if swap.folder == plan.store:
                folder = plan.place / backup.MODELS
                swap.stage({path.name: path for path in folder.iterdir()}, _copy_open)
            else:
                swap.stage(plan.journal_files(), copy_file)
        os.sync()
    except BaseException:
        for swap in swaps:
            swap.clear()
        raise


def _copy_open(source: Path, target: Path) -> None:
    """Copy a file or a folder that holds no secrets."""
    if source.is_dir():
        copy_tree(source, target, private=False)
    else:
        copy_file(source, target, private=False)


def _set_aside(plan: Plan) -> None:
    """Take everything out of the way, the database first."""
    if plan.has_tables:
        set_tables_aside(plan.places, plan.schema)
    for swap in reversed(plan.swaps()):
        swap.set_aside()


def _put(plan: Plan) -> None:
    """Put everything in its place, the database last."""
    for swap in plan.swaps():
        swap.place()
    if plan.has_tables:
        load_tables(plan.places, plan.place / backup.DATABASE["postgresql"])


def _add(plan: Plan) -> list[str]:
    """Add the files that take the place of none; the names of those that are here already and differ."""
    kept = []
    for folder, target in ((backup.PROJECT, plan.root), (backup.WORK, plan.root / plan.settings.work)):
        for name in files_in(plan.place / folder):
            source, private = plan.place / folder / name, name in backup.SECRETS
            if _copy_new(source, target / name, private=private) and sha256_file(source) != sha256_file(target / name):
                kept.append(name)
    if plan.has_database:
        places, inputs = plan.places, plan.settings.feedback.inputs
        _merge(plan, backup.SPOOL, places.spool)
        _merge(plan, backup.OUTBOX, places.outbox)
        # An object store gets them by way of the folder of what waits to be sent.
        _merge(plan, backup.INPUTS, places.outbox if "://" in inputs else plan.root / inputs)
    return kept


def _merge(plan: Plan, name: str, target: Path) -> None:
    """Add the files of a folder whose names tell their content."""
    source = plan.place / name
    for path in files_in(source):
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _copy_new(source / path, target / path):
            # A copy of the backup may have lost the times, by which inputs expire.
            created = datetime.fromisoformat(plan.manifest.created).timestamp()
            time = min((source / path).stat().st_mtime, created)
            os.utime(target / path, (time, time))


def _copy_new(source: Path, target: Path, *, private: bool = True) -> bool:
    """Copy a file, whole or not at all, to where there is none; whether one was there."""
    if target.exists():
        return True
    temporary = target.with_name(f".{target.name}.partial")
    copy_file(source, temporary, private=private)
    temporary.rename(target)
    return False


def _aside(plan: Plan) -> list[str]:
    """Where what was there is kept."""
    folders = {str(folder): None for swap in plan.swaps() if (folder := swap.kept())}
    schemas = [f"schema {plan.schema}"] if plan.has_tables and has_schema(plan.places, plan.schema) else []
    return [*folders, *schemas]


def _examine(plan: Plan, done: Restored) -> Restored:
    """Say what the checks say of what was restored."""
    journal, models, problems = "", "", []
    try:
        journal = _verify_journal(plan) if plan.has_database else ""
    except UserError as error:
        problems.append(f"the journal: {error.found} ({error.hint})")
    if plan.has_models:
        key = plan.settings.signing.verify_key
        store = ModelStore(plan.store, verify_key=plan.root / key if key else None)
        try:
            problems += (found := store.verify())
            models = "" if found else f"{sum(1 for _ in store.versions())} versions are as they were registered"
        except UserError as error:
            problems.append(f"the model store: {error.found} ({error.hint})")
    return replace(done, journal=journal, models=models, problems=problems)


def _verify_journal(plan: Plan) -> str:
    """Write into the journal that it was restored, and verify it."""
    dumped = plan.manifest.database
    assert dumped is not None  # noqa: S101 - it was restored
    if dumped.form < NEWEST:
        return f"the database is of form {dumped.form}: run `medloop db upgrade`, then `medloop journal verify`"
    with closing(open_feedback(plan.settings.feedback, root=plan.root, restoring=True)) as feedback:
        content = {"created": plan.manifest.created, "seq": dumped.seq, "hash": dumped.hash}
        noted = feedback.journal.entries(after=dumped.seq, kind="restore")
        # One that was killed just then has written it already.
        if not any(json.loads(entry.content) == content for entry in noted):
            feedback.note("restore", content).result(DURABLE_S)
        return verify(feedback)
