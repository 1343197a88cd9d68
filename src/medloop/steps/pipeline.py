"""Runs the stages in order, and only those for which something changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.errors import GateRefusal, UserError
from medloop.steps.inputs import Inputs, hash_of, inputs_of, why_again
from medloop.steps.project import Project
from medloop.steps.stages import STAGES, function_of
from medloop.storage import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of one stage, and why it ran."""

    stage: str
    text: str
    seconds: float
    skipped: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of a stage before it runs: what it depends on now, and what has changed since it last ran."""

    inputs: Inputs
    # Its message when it last ran, if it ever did.
    text: str | None
    changes: dict[str, str]
    results_changed: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Return whether running it again would give the same results."""
        return self.text is not None and not self.changes and not self.results_changed

    @property
    def why(self) -> str:
        """Return why it runs again; nothing where it never ran."""
        lost = {name: f"{name} (a result)" for name in self.results_changed}
        return why_again({**self.changes, **lost}) if self.text is not None else ""


def run_stage(project: Project, name: str) -> Done:
    """Run one stage, whether or not anything changed."""
    if name in STAGES:
        return _run(project, name, _state(project, name))
    started = time.perf_counter()
    project.work.mkdir(parents=True, exist_ok=True)
    return Done(stage=name, text=function_of(name)(project), seconds=time.perf_counter() - started)


def run_all(project: Project) -> Iterator[Done]:
    """Run each stage for which something changed, then gate and register; a refusal is raised last."""
    for name in STAGES:
        started = time.perf_counter()
        state = _state(project, name)
        if state.is_done:
            text = str(state.text)
            yield Done(stage=name, text=text, seconds=time.perf_counter() - started, skipped=True)
        else:
            yield _run(project, name, state)
    refusal = None
    try:
        yield run_stage(project, "gate")
    except GateRefusal as error:
        refusal = error
    yield run_stage(project, "register")
    if refusal is not None:
        raise refusal


def last_message(project: Project, name: str) -> str | None:
    """Return the stage's last message, if neither its inputs nor its outputs have changed."""
    state = _state(project, name)
    return state.text if state.is_done else None


def _run(project: Project, name: str, state: State) -> Done:
    started = time.perf_counter()
    project.work.mkdir(parents=True, exist_ok=True)
    require(project, name)
    stage = STAGES[name]
    (only,) = state.changes if len(state.changes) == 1 and not state.results_changed else ("",)
    text = function_of(name, stage.shortcuts.get(only, "run"))(project)
    # The inputs were recorded before it ran: a change made meanwhile is seen by the next run.
    stamp = {"inputs": state.inputs.to_json(), "outputs": _outputs(project, name), "text": text}
    write_json(_stamp(project, name), stamp)
    return Done(stage=name, text=text, seconds=time.perf_counter() - started, why=state.why)


def _state(project: Project, name: str) -> State:
    inputs, stamp = inputs_of(project, name, STAGES[name]), _read_stamp(project, name)
    if stamp is None:
        return State(inputs=inputs, text=None, changes={})
    outputs = _outputs(project, name)
    before = Inputs.read(stamp.get("inputs", {})).with_new_fields(inputs, project.recipe)
    return State(
        inputs=inputs,
        text=str(stamp["text"]),
        changes=inputs.changes(before),
        results_changed=tuple(name for name in outputs if stamp["outputs"].get(name) != outputs[name]),
    )


def _stamp(project: Project, name: str) -> Path:
    return project.work / "stamps" / f"{name}.json"


def _read_stamp(project: Project, name: str) -> dict[str, Any] | None:
    """Return the record of the stage's last run, if there is a readable one."""
    try:
        stamp = read_json(_stamp(project, name))
    except UserError:
        return None
    return stamp if isinstance(stamp, dict) and "text" in stamp and isinstance(stamp.get("outputs"), dict) else None


def _outputs(project: Project, name: str) -> dict[str, str]:
    stage = STAGES[name]
    return {path: hash_of(project.work / path) for path in (*stage.writes, *stage.lasting)}


def require(project: Project, name: str) -> None:
    """Refuse to run a stage whose input files are missing."""
    absent = [path for path in STAGES[name].reads if not (project.work / path).exists()]
    if absent:
        maker = next(stage for stage, entry in STAGES.items() if absent[0] in (*entry.writes, *entry.lasting))
        raise UserError(
            f"`medloop {name}` needs {project.shown(absent[0])}, which does not exist.",
            f"Run `medloop {maker}` first.",
        )
