"""Everything that the result of a stage depends on, and what of it has changed since the stage ran."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import medloop
from medloop.recipe import Recipe
from medloop.recipe.new_fields import fill_new_fields
from medloop.steps.kinds import kind_of
from medloop.steps.project import Project
from medloop.steps.stages import Stage
from medloop.storage import sha256_file, walk_files

# Not `recipe`: its values are compared field by field.
WORDS = ("case.py", "errors.py", "page", "storage", "steps")
CODE_FILES = {".py", ".html", ".css"}
ABSENT = "absent"
CODE = "the code of medloop"
MAX_VALUE = 30
MAX_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a stage depends on, by name: values that can be displayed, and hashes of the rest."""

    values: dict[str, Any]
    hashes: dict[str, str]

    def changes(self, before: Inputs) -> dict[str, str]:
        """Return what differs from before: a description by name."""
        if not before.hashes:
            return {CODE: CODE}
        described = {
            name: _describe_change(name, before.values, self.values) for name in _differing(before.values, self.values)
        }
        return {**{name: name for name in _differing(before.hashes, self.hashes)}, **described}

    @staticmethod
    def read(content: Mapping[str, Any]) -> Inputs:
        """Read the inputs in a stamp; an older medloop did not store them."""
        return Inputs(values=content.get("values", {}), hashes=content.get("hashes", {}))

    def with_new_fields(self, now: Inputs, recipe: Recipe) -> Inputs:
        """Return earlier inputs with the recipe fields that did not exist then, where they hold their default."""
        return replace(self, values=fill_new_fields(self.values, now.values, recipe))

    def to_json(self) -> dict[str, Any]:
        """Return the content for a stamp."""
        return asdict(self)


def inputs_of(project: Project, name: str, stage: Stage) -> Inputs:
    """Return everything that the stage's result depends on, in its present state."""
    outside = outside_of(project, name, stage)
    recipe = project.recipe.model_dump(mode="json")
    fields = dict(
        pair for section in stage.sections for pair in _flat(section, reduce(getitem, section.split("."), recipe))
    )
    files = {path: hash_of(project.work / path) for path in stage.reads}
    return Inputs(values={**outside.values, **fields}, hashes={**outside.hashes, **files})


def outside_of(project: Project, name: str, stage: Stage) -> Inputs:
    """Return what the stage depends on besides the recipe and the files of earlier stages."""
    versions = stage.library_versions(kind_of(project).name)
    return Inputs(values=versions, hashes={CODE: code_hash(stage), **_files_outside(project, name)})


def why_again(changes: Mapping[str, str]) -> str:
    """Return what has changed, for the line of the stage."""
    descriptions = list(changes.values())
    more = f" and {len(descriptions) - MAX_REASONS} more" if len(descriptions) > MAX_REASONS else ""
    return f"changed: {', '.join(descriptions[:MAX_REASONS])}{more}" if descriptions else ""


def hash_of(path: Path, *, describe: Callable[[os.DirEntry[str]], str] | None = None) -> str:
    """Return a hash of a file's content, or of the names of a folder's files and a description of each."""
    if path.is_dir():
        describe = describe or _content
        lines = sorted(
            f"{file.path.removeprefix(str(path))} {describe(file)}" for _, files in walk_files(path) for file in files
        )
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return sha256_file(path) if path.is_file() else ABSENT


def code_hash(stage: Stage) -> str:
    """Return a hash of the code that a stage runs, so that a new medloop runs again what it changed."""
    root = Path(medloop.__file__).parent
    digest = hashlib.sha256()
    for part in sorted((*WORDS, *stage.packages)):
        place = root / part
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            if file.suffix not in CODE_FILES:
                continue
            digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _files_outside(project: Project, name: str) -> dict[str, str]:
    if name == "ingest":
        return {"the files of data.path": _source(project)}
    if name == "audit" and project.recipe.audit.reference:
        return {"the file of audit.reference": hash_of(project.root / project.recipe.audit.reference)}
    return kind_of(project).starting_weights(project) if name in ("tune", "train") else {}


def _source(project: Project) -> str:
    """Return a hash of the source: a file and what it lists, or the sizes and times of a folder's files."""
    data = project.recipe.data
    place = project.root / data.path if data.path else None
    if place is None or not place.exists():
        return ABSENT
    if place.is_dir():
        # Reading every file of a folder would take as long as ingesting them.
        return hash_of(place, describe=lambda file: _times(file.stat()))
    if data.image is None:
        return hash_of(place)
    from medloop.data.sources.listed import listed_files

    listed = "\n".join(_times(file.stat()) if file.is_file() else ABSENT for file in listed_files(place, data))
    return hashlib.sha256(f"{hash_of(place)}\n{listed}".encode()).hexdigest()


def _content(file: os.DirEntry[str]) -> str:
    return sha256_file(Path(file))


def _times(facts: os.stat_result) -> str:
    """Return the size and the times, among them that of the last change of any kind, which cannot be set back."""
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a section by their full names."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*now, *before))
    return [name for name in names if name not in before or name not in now or before[name] != now[name]]


def _describe_change(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = (json.dumps(values[name]).strip('"') if name in values else "unset" for values in (before, now))
    return f"{name} ({old} -> {new})" if max(len(old), len(new)) <= MAX_VALUE else name
