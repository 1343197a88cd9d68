"""The order of the stages, what each depends on, and running only what changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medloop
from medloop.errors import GateRefusal, UserError
from medloop.steps import stages, tuning
from medloop.steps.project import Project
from medloop.storage import read_json, sha256_file, write_json

WORDS = ("case.py", "errors.py", "page.py", "recipe", "storage", "steps")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the loop: DVC, `medloop run` and the command line all read this."""

    run: Callable[[Project], str]
    reads: tuple[str, ...]
    sections: tuple[str, ...]
    writes: tuple[str, ...]
    parts: tuple[str, ...]
    lasting: tuple[str, ...] = ()


STAGES: dict[str, Stage] = {
    "ingest": Stage(
        run=stages.ingest, reads=(), sections=("data",), writes=("cases.parquet",), parts=("data", "prepare")
    ),
    "audit": Stage(
        run=stages.audit,
        reads=("cases.parquet",),
        sections=("audit",),
        writes=("audit",),
        parts=("audit", "data", "prepare", "models", "metrics"),
    ),
    "split": Stage(
        run=stages.split,
        reads=("cases.parquet", "audit"),
        sections=("split",),
        writes=("splits.parquet", "split.json"),
        lasting=("edition.json",),
        parts=("data", "prepare"),
    ),
    "prepare": Stage(
        run=stages.prepare,
        reads=("cases.parquet",),
        sections=("data", "prepare"),
        writes=("prepared",),
        parts=("prepare", "data"),
    ),
    "tune": Stage(
        run=tuning.tune,
        reads=("splits.parquet", "prepared"),
        sections=("model", "train", "tune"),
        writes=("tuned.yaml", "tune.json"),
        parts=("train", "prepare", "models", "metrics"),
    ),
    "train": Stage(
        run=stages.train,
        reads=("splits.parquet", "prepared", "tuned.yaml", "audit"),
        sections=("model", "train"),
        writes=("trained",),
        parts=("train", "prepare", "models", "metrics"),
    ),
    "export": Stage(
        run=stages.export,
        reads=("trained", "splits.parquet", "split.json", "tune.json", "prepared", "edition.json", "cases.parquet"),
        sections=("name", "export"),
        writes=("bundle",),
        parts=("bundle", "prepare", "metrics", "models"),
    ),
    "evaluate": Stage(
        run=stages.evaluate,
        reads=("bundle", "splits.parquet", "cases.parquet", "audit", "prepared"),
        sections=("evaluate",),
        writes=("report",),
        parts=("evaluate", "bundle", "prepare", "metrics", "data", "models", "train"),
    ),
}

# These have outcomes, not outputs, so they are done anew each time and are no stages of DVC.
OUTCOMES: dict[str, Callable[[Project], str]] = {"gate": stages.gate, "register": stages.register}


@dataclass(frozen=True, kw_only=True)
class Done:
    """How one stage went."""

    stage: str
    text: str
    seconds: float
    skipped: bool = False


def run_stage(project: Project, name: str) -> Done:
    """Run one stage, whether or not anything changed."""
    started = time.perf_counter()
    project.work.mkdir(parents=True, exist_ok=True)
    if name in STAGES:
        require(project, name)
    run = OUTCOMES[name] if name in OUTCOMES else STAGES[name].run
    text = run(project)
    if name in STAGES:
        write_json(
            _stamp(project, name), {"key": _key(project, name), "outputs": _outputs(project, name), "text": text}
        )
    return Done(stage=name, text=text, seconds=time.perf_counter() - started)


def run_all(project: Project) -> Iterator[Done]:
    """Every stage that something changed for, then the gate and the register; a refusal comes last."""
    for name in STAGES:
        started = time.perf_counter()
        text = said_before(project, name)
        if text is None:
            yield run_stage(project, name)
        else:
            yield Done(stage=name, text=text, seconds=time.perf_counter() - started, skipped=True)
    refusal = None
    try:
        yield run_stage(project, "gate")
    except GateRefusal as error:
        refusal = error
    yield run_stage(project, "register")
    if refusal is not None:
        raise refusal


def said_before(project: Project, name: str) -> str | None:
    """What the stage said last time, if neither what it reads nor what it wrote has changed."""
    path = _stamp(project, name)
    if not path.is_file():
        return None
    stamp = read_json(path)
    same = stamp["key"] == _key(project, name) and stamp["outputs"] == _outputs(project, name)
    return str(stamp["text"]) if same else None


def _stamp(project: Project, name: str) -> Path:
    return project.work / "stamps" / f"{name}.json"


def _key(project: Project, name: str) -> str:
    """A hash of all that the stage's result depends on."""
    stage = STAGES[name]
    recipe = project.recipe.model_dump(mode="json")
    content: dict[str, Any] = {
        "code": code_hash(name),
        "sections": {section: recipe[section] for section in stage.sections},
        "reads": {path: _hash(project.work / path) for path in stage.reads},
        "smoke": project.smoke,
    }
    outside = {"ingest": project.recipe.data.path, "audit": project.recipe.audit.reference}.get(name)
    if outside and (project.root / outside).exists():
        place = project.root / outside
        # To read all files of a folder would take as long as to ingest them.
        content["source"] = _hash(place, of=_times) if place.is_dir() else _hash(place)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _outputs(project: Project, name: str) -> dict[str, str]:
    stage = STAGES[name]
    return {path: _hash(project.work / path) for path in (*stage.writes, *stage.lasting)}


def _content(file: os.DirEntry[str]) -> str:
    return sha256_file(Path(file))


def _times(file: os.DirEntry[str]) -> str:
    """The size and the times, that of the last change of any kind among them, which nobody can set back."""
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _hash(path: Path, *, of: Callable[[os.DirEntry[str]], str] = _content) -> str:
    """A hash of a file's content, or of the names of a folder's files and what is told of each."""
    if path.is_dir():
        lines = sorted(f"{file.path.removeprefix(str(path))} {of(file)}" for file in _files_below(path))
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return sha256_file(path) if path.is_file() else "absent"


def _files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file():
                    yield entry


def code_hash(name: str) -> str:
    """A hash of the code that a stage runs, so that a new medloop does again what it changed."""
    root = Path(medloop.__file__).parent
    digest = hashlib.sha256()
    for part in sorted((*WORDS, *STAGES[name].parts)):
        place = root / part
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def require(project: Project, name: str) -> None:
    """The files that a stage reads must be there."""
    absent = [path for path in STAGES[name].reads if not (project.work / path).exists()]
    if absent:
        maker = next(stage for stage, entry in STAGES.items() if absent[0] in (*entry.writes, *entry.lasting))
        raise UserError(
            f"`medloop {name}` needs {project.shown(absent[0])}",
            found="no such file",
            hint=f"run `medloop {maker}` first",
        )
