"""Restore of a backup: all or nothing, existing files are set aside, and an interrupted restore can be finished."""

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
from medloop.feedback.copies import check_programs, has_content, has_schema, is_in_use, load_tables, set_tables_aside
from medloop.feedback.db.database import Places
from medloop.feedback.db.migrate import NEWEST
from medloop.feedback.journal.head import read_head
from medloop.registry.store import ModelStore
from medloop.settings import Settings, load_settings
from medloop.steps.recovery import backup
from medloop.steps.recovery.backup import Manifest, copy_file, copy_tree, files_in, read_backup
from medloop.steps.recovery.swap import Swap
from medloop.steps.replay import DURABLE_S, verify
from medloop.storage import file_lock, read_json, sha256_file, write_json
from medloop.times import local_time

PARTS = ("database", "models")


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was restored, what was set aside, and the results of the checks."""

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
    """The parts to restore and their destinations."""

    root: Path
    place: Path
    settings: Settings
    manifest: Manifest
    parts: tuple[str, ...]
    began: str

    @property
    def places(self) -> Places:
        """Return the locations of the feedback store."""
        return Places.of(self.settings.feedback, self.root)

    @property
    def store(self) -> Path:
        """Return the folder of the model store."""
        return self.root / self.settings.models

    @property
    def has_database(self) -> bool:
        """Return whether a database is to be restored."""
        return self.manifest.database is not None and "database" in self.parts

    @property
    def has_tables(self) -> bool:
        """Return whether the database is on a server."""
        return self.has_database and self.places.file is None

    @property
    def has_models(self) -> bool:
        """Return whether a model store is to be restored."""
        return (self.place / backup.MODELS).is_dir() and "models" in self.parts

    @property
    def stamp(self) -> str:
        """Return the suffix for the names of what is set aside."""
        return datetime.fromisoformat(self.began).strftime("%Y%m%dT%H%M%S%f")

    @property
    def schema(self) -> str:
        """Return the schema that holds the tables set aside on a server."""
        return f"medloop_before_restore_{self.stamp}"

    def swaps(self) -> list[Swap]:
        """Return the replacements, the database's files last."""
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
        """Return the key, the head and the database file of the backup, by their destination names."""
        places = self.places
        found = {places.key.name: self.place / backup.KEY, places.head.name: self._newest_head()}
        if places.file is not None:
            found[places.file.name] = self.place / backup.DATABASE[places.kind]
        return {name: path for name, path in found.items() if path.is_file()}

    def _newest_head(self) -> Path:
        """Return the newest head of this journal: the backup's, the present one, or one set aside earlier."""
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
    """Restore a backup into a project, or finish an interrupted restore; nothing existing is deleted."""
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
    """Return the record of an interrupted restore; empty where there is none."""
    if not (root / UNFINISHED).is_file():
        return {}
    started: dict[str, Any] = read_json(root / UNFINISHED)
    if (started["backup"], started["only"]) != (sha256_file(place / backup.MANIFEST), only):
        option = f" with --only {started['only']}" if started["only"] else ""
        raise UserError(
            f"Another restore, started at {local_time(started['began'])}{option}, was interrupted here.",
            "Finish it first: run the same `medloop restore` again, with the same backup and options.",
        )
    return started


def _settings(root: Path, place: Path) -> Settings:
    """Return the settings after the restore: the project's own files, and the backup's where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (*backup.RECIPE, *backup.SECRETS):
            here = root / name
            copy_file(here if here.is_file() else place / backup.PROJECT / name, Path(folder) / name)
        return load_settings(Path(folder))


def _check(plan: Plan, *, overwrite: bool) -> None:
    """Refuse a restore that cannot succeed, or would replace something without --replace."""
    if outside := _outside(plan):
        raise UserError(
            "The backup's config.yaml points outside this folder, to places that another project may be using: "
            f"{', '.join(outside)}.",
            "Copy it here (project/config.yaml in the backup), set these to this project's own places, and restore "
            "again.",
        )
    if plan.has_models and "://" in plan.settings.models:
        raise UserError(
            f"The setting `models` is {plan.settings.models}, but a model store can only be restored into a folder.",
            "Restore it in the project that mirrors it there, and use --only database here.",
        )
    if plan.has_database:
        _check_kind(plan)
    database = plan.places.url.render_as_string(hide_password=True)
    there = [f"the database {database}"] if plan.has_database and has_content(plan.places) else []
    there += [f"the model store {plan.store}"] if plan.has_models and any(plan.store.glob("[!.]*")) else []
    if there and not overwrite:
        raise UserError(
            f"The project already has {' and '.join(there)}.",
            "Restore into a new folder, or add --replace: existing files are then set aside, not deleted.",
        )
    if plan.has_database and is_in_use(plan.places):
        raise UserError(
            "The database is in use by another process.",
            "Stop the service and every other medloop command, then try again.",
        )


def _outside(plan: Plan) -> list[str]:
    """Return the settings that come from the backup and point outside the project."""
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
            f"The backup's database has schema {dumped.form}; this medloop knows schemas up to {NEWEST}.",
            f"Install medloop {plan.manifest.medloop} or newer.",
        )
    if dumped.kind != places.kind:
        raise UserError(
            f"The backup is of a {dumped.kind} database, but feedback.url names a {places.kind} database.",
            "Set feedback.url (MEDLOOP_FEEDBACK__URL) to a database of the same kind.",
        )
    if places.file is None:
        check_programs("pg_restore")


def _stage(plan: Plan) -> None:
    """Copy everything that replaces something to staging folders, so that only moves remain."""
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
    """Set everything aside, the database first."""
    if plan.has_tables:
        set_tables_aside(plan.places, plan.schema)
    for swap in reversed(plan.swaps()):
        swap.set_aside()


def _put(plan: Plan) -> None:
    """Move everything to its destination, the database last."""
    for swap in plan.swaps():
        swap.place()
    if plan.has_tables:
        load_tables(plan.places, plan.place / backup.DATABASE["postgresql"])


def _add(plan: Plan) -> list[str]:
    """Add the files that replace nothing; return the names of existing files that differ."""
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
        # They reach an object store through the outbox.
        _merge(plan, backup.INPUTS, places.outbox if "://" in inputs else plan.root / inputs)
    return kept


def _merge(plan: Plan, name: str, target: Path) -> None:
    """Add the files of a folder in which files are named by content."""
    source = plan.place / name
    for path in files_in(source):
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _copy_new(source / path, target / path):
            # Inputs expire by their times, which a copy of the backup may have lost.
            created = datetime.fromisoformat(plan.manifest.created).timestamp()
            time = min((source / path).stat().st_mtime, created)
            os.utime(target / path, (time, time))


def _copy_new(source: Path, target: Path, *, private: bool = True) -> bool:
    """Copy a file atomically unless the destination exists; return whether it does."""
    if target.exists():
        return True
    temporary = target.with_name(f".{target.name}.partial")
    copy_file(source, temporary, private=private)
    temporary.rename(target)
    return False


def _aside(plan: Plan) -> list[str]:
    """Return the places of what was set aside."""
    folders = {str(folder): None for swap in plan.swaps() if (folder := swap.kept())}
    schemas = [f"schema {plan.schema}"] if plan.has_tables and has_schema(plan.places, plan.schema) else []
    return [*folders, *schemas]


def _examine(plan: Plan, done: Restored) -> Restored:
    """Verify what was restored."""
    journal, models, problems = "", "", []
    try:
        journal = _verify_journal(plan) if plan.has_database else ""
    except UserError as error:
        problems.append(f"the journal: {error.problem} {error.hint}")
    if plan.has_models:
        key = plan.settings.signing.verify_key
        store = ModelStore(plan.store, verify_key=plan.root / key if key else None)
        try:
            problems += (found := store.verify())
            models = "" if found else f"{sum(1 for _ in store.versions())} versions verified"
        except UserError as error:
            problems.append(f"the model store: {error.problem} {error.hint}")
    return replace(done, journal=journal, models=models, problems=problems)


def _verify_journal(plan: Plan) -> str:
    """Record the restore in the journal, and verify it."""
    dumped = plan.manifest.database
    assert dumped is not None  # noqa: S101 - it was restored
    if dumped.form < NEWEST:
        return f"the database has schema {dumped.form}: run `medloop db upgrade`, then `medloop journal verify`"
    with closing(open_feedback(plan.settings.feedback, root=plan.root, restoring=True)) as feedback:
        content = {"created": plan.manifest.created, "seq": dumped.seq, "hash": dumped.hash}
        noted = feedback.journal.entries(after=dumped.seq, kind="restore")
        # An interrupted restore may have recorded it already.
        if not any(json.loads(entry.content) == content for entry in noted):
            feedback.note("restore", content).result(DURABLE_S)
        return verify(feedback)
