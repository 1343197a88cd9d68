"""The order of the stages, what each depends on, and running only what changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.errors import GateRefusal, UserError
from medloop.steps import stages, tuning
from medloop.steps.inputs import Inputs, Stage, hash_of, inputs_of, why_again
from medloop.steps.project import Project
from medloop.storage import read_json, write_json

STAGES: dict[str, Stage] = {
    "ingest": Stage(
        run=stages.ingest,
        reads=(),
        sections=("data", "prepare.frame", "prepare.window"),
        writes=("cases.parquet",),
        parts=("data", "prepare"),
    ),
    "audit": Stage(
        run=stages.audit,
        reads=("cases.parquet",),
        sections=("audit",),
        writes=(),
        lasting=("audit",),
        enough={"audit.accept": stages.accept},
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
    """How one stage went, and what had changed since it ran before."""

    stage: str
    text: str
    seconds: float
    skipped: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a stage stands before it runs: what it depends on now, and what has changed since it ran."""

    inputs: Inputs
    # What it said when it ran, if it ever did.
    text: str | None
    changes: dict[str, str]
    results_changed: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether its results are what they would be again."""
        return self.text is not None and not self.changes and not self.results_changed

    @property
    def why(self) -> str:
        """Why it runs again; nothing where it never ran."""
        lost = {name: f"{name} (a result)" for name in self.results_changed}
        return why_again({**self.changes, **lost}) if self.text is not None else ""


def run_stage(project: Project, name: str) -> Done:
    """Run one stage, whether or not anything changed."""
    if name in STAGES:
        return _run(project, name, _standing(project, name))
    started = time.perf_counter()
    project.work.mkdir(parents=True, exist_ok=True)
    return Done(stage=name, text=OUTCOMES[name](project), seconds=time.perf_counter() - started)


def run_all(project: Project) -> Iterator[Done]:
    """Every stage that something changed for, then the gate and the register; a refusal comes last."""
    for name in STAGES:
        started = time.perf_counter()
        standing = _standing(project, name)
        if standing.is_done:
            text = str(standing.text)
            yield Done(stage=name, text=text, seconds=time.perf_counter() - started, skipped=True)
        else:
            yield _run(project, name, standing)
    refusal = None
    try:
        yield run_stage(project, "gate")
    except GateRefusal as error:
        refusal = error
    yield run_stage(project, "register")
    if refusal is not None:
        raise refusal


def said_before(project: Project, name: str) -> str | None:
    """What the stage said last time, if neither what it depends on nor what it wrote has changed."""
    standing = _standing(project, name)
    return standing.text if standing.is_done else None


def _run(project: Project, name: str, standing: Standing) -> Done:
    started = time.perf_counter()
    project.work.mkdir(parents=True, exist_ok=True)
    require(project, name)
    stage = STAGES[name]
    (only,) = standing.changes if len(standing.changes) == 1 and not standing.results_changed else ("",)
    text = stage.enough.get(only, stage.run)(project)
    # What it depends on was noted before it ran: what changes meanwhile is seen by the next run.
    stamp = {"inputs": standing.inputs.to_json(), "outputs": _outputs(project, name), "text": text}
    write_json(_stamp(project, name), stamp)
    return Done(stage=name, text=text, seconds=time.perf_counter() - started, why=standing.why)


def _standing(project: Project, name: str) -> Standing:
    inputs, stamp = inputs_of(project, name, STAGES[name]), _read_stamp(project, name)
    if stamp is None:
        return Standing(inputs=inputs, text=None, changes={})
    outputs = _outputs(project, name)
    return Standing(
        inputs=inputs,
        text=str(stamp["text"]),
        changes=inputs.changes(Inputs.read(stamp.get("inputs", {}))),
        results_changed=tuple(name for name in outputs if stamp["outputs"].get(name) != outputs[name]),
    )


def _stamp(project: Project, name: str) -> Path:
    return project.work / "stamps" / f"{name}.json"


def _read_stamp(project: Project, name: str) -> dict[str, Any] | None:
    """What the stage noted when it ran; nothing where it never ran, or where the note cannot be read."""
    try:
        stamp = read_json(_stamp(project, name))
    except UserError:
        return None
    return stamp if isinstance(stamp, dict) and "text" in stamp and isinstance(stamp.get("outputs"), dict) else None


def _outputs(project: Project, name: str) -> dict[str, str]:
    stage = STAGES[name]
    return {path: hash_of(project.work / path) for path in (*stage.writes, *stage.lasting)}


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
