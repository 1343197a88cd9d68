"""All that the result of a stage depends on, and which of it has changed since the stage ran."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import medloop
from medloop.recipe import Kind
from medloop.steps.images import begins_with, has_images
from medloop.steps.libraries import versions
from medloop.steps.project import Project
from medloop.storage import sha256_file

WORDS = ("case.py", "errors.py", "page.py", "recipe", "storage", "steps")
ABSENT = "absent"
CODE = "the code of medloop"
LONGEST_VALUE = 30
REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the loop: DVC, `medloop run` and the command line all read this."""

    run: Callable[[Project], str]
    reads: tuple[str, ...]
    sections: tuple[str, ...]
    writes: tuple[str, ...]
    parts: tuple[str, ...]
    # These outlast their stage: what was written before is there when it runs again.
    lasting: tuple[str, ...] = ()
    # What is enough where only this field of the recipe has changed.
    enough: Mapping[str, Callable[[Project], str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a stage depends on, by name: values that can be shown, and hashes of the rest."""

    values: dict[str, Any]
    hashes: dict[str, str]

    def changes(self, before: Inputs) -> dict[str, str]:
        """What is other than before, in words by its name."""
        if not before.hashes:
            return {CODE: CODE}
        shown = {name: _shown(name, before.values, self.values) for name in _differing(before.values, self.values)}
        return {**{name: name for name in _differing(before.hashes, self.hashes)}, **shown}

    @staticmethod
    def read(content: Mapping[str, Any]) -> Inputs:
        """What a stamp holds; that of an older medloop holds nothing of the kind."""
        return Inputs(values=content.get("values", {}), hashes=content.get("hashes", {}))

    def to_json(self) -> dict[str, Any]:
        """For a stamp."""
        return asdict(self)


def inputs_of(project: Project, name: str, stage: Stage) -> Inputs:
    """Everything that the stage's result depends on, as it is now."""
    outside = outside_of(project, name, stage)
    recipe = project.recipe.model_dump(mode="json")
    fields = dict(
        pair for section in stage.sections for pair in _flat(section, reduce(getitem, section.split("."), recipe))
    )
    files = {path: hash_of(project.work / path) for path in stage.reads}
    return Inputs(values={**outside.values, **fields}, hashes={**outside.hashes, **files})


def outside_of(project: Project, name: str, stage: Stage) -> Inputs:
    """What the stage depends on besides the recipe and the files of the stages before it."""
    kind: Kind = "images" if has_images(project) else "table"
    return Inputs(values=versions(name, kind), hashes={CODE: code_hash(stage), **_files_outside(project, name)})


def why_again(changes: Mapping[str, str]) -> str:
    """What has changed, as it is told beside the stage."""
    said = list(changes.values())
    more = f" and {len(said) - REASONS} more" if len(said) > REASONS else ""
    return f"changed: {', '.join(said[:REASONS])}{more}" if said else ""


def hash_of(path: Path, *, of: Callable[[os.DirEntry[str]], str] | None = None) -> str:
    """A hash of a file's content, or of the names of a folder's files and what is told of each."""
    if path.is_dir():
        tell = of or _content
        lines = sorted(f"{file.path.removeprefix(str(path))} {tell(file)}" for file in _files_below(path))
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return sha256_file(path) if path.is_file() else ABSENT


def code_hash(stage: Stage) -> str:
    """A hash of the code that a stage runs, so that a new medloop does again what it changed."""
    root = Path(medloop.__file__).parent
    digest = hashlib.sha256()
    for part in sorted((*WORDS, *stage.parts)):
        place = root / part
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _files_outside(project: Project, name: str) -> dict[str, str]:
    if name == "ingest":
        return {"the files of data.path": _source(project)}
    if name == "audit" and project.recipe.audit.reference:
        return {"the file of audit.reference": hash_of(project.root / project.recipe.audit.reference)}
    return begins_with(project) if name in ("tune", "train") else {}


def _source(project: Project) -> str:
    """The source: a file's content and what it lists, or what is told of a folder's files."""
    data = project.recipe.data
    place = project.root / data.path if data.path else None
    if place is None or not place.exists():
        return ABSENT
    if place.is_dir():
        # To read all files of a folder would take as long as to ingest them.
        return hash_of(place, of=lambda file: _times(file.stat()))
    if data.image is None:
        return hash_of(place)
    from medloop.data.listed import listed_files

    told = "\n".join(_times(file.stat()) if file.is_file() else ABSENT for file in listed_files(place, data))
    return hashlib.sha256(f"{hash_of(place)}\n{told}".encode()).hexdigest()


def _content(file: os.DirEntry[str]) -> str:
    return sha256_file(Path(file))


def _times(facts: os.stat_result) -> str:
    """The size and the times, that of the last change of any kind among them, which nobody can set back."""
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file():
                    yield entry


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a section by their full names."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*now, *before))
    return [name for name in names if name not in before or name not in now or before[name] != now[name]]


def _shown(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = (json.dumps(values[name]).strip('"') if name in values else "unset" for values in (before, now))
    return f"{name} ({old} -> {new})" if max(len(old), len(new)) <= LONGEST_VALUE else name
