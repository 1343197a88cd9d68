"""Tune: hyperparameters are searched over the ranges of the recipe, never on test cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from medloop.recipe import TuneSection
from medloop.steps.kinds import kind_of
from medloop.steps.project import Project
from medloop.steps.tracked import content_name, epoch_log
from medloop.storage import atomic_file, write_json, write_text

if TYPE_CHECKING:
    from medloop.registry.mlflow.epochs import LiveRun
    from medloop.train.tune import Tuned


def run(project: Project) -> str:
    """Write work/tuned.yaml, work/tune.json, and tables and plots into work/tune/."""
    section = project.recipe.tune
    if section.trials == 0:
        write_json(project.work / "tune.json", {"trials": 0})
        write_text(project.work / "tuned.yaml", yaml.safe_dump({}))
        return "no trials (tune.trials: 0)"
    tuned, judged_on = _search(project)
    _write_tables_and_plots(project, tuned)
    write_json(project.work / "tune.json", _facts(tuned, section, judged_on))
    write_text(project.work / "tuned.yaml", yaml.safe_dump(tuned.best))
    values = ", ".join(f"{name} {_format(value)}" for name, value in tuned.best.items())
    found = f"best {section.metric} {tuned.figure:.3f} with {values}"
    return f"{len(tuned.trials)} trials, {found}; see {project.shown('tune')}/"


def _facts(tuned: Tuned, section: TuneSection, judged_on: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was tried, on which cases, and what was chosen."""
    states = tuned.trials["state"].value_counts()
    return {
        "trials": len(tuned.trials),
        "complete": int(states.get("complete", 0)),
        "pruned": int(states.get("pruned", 0)),
        "metric": section.metric,
        "seed": section.seed,
        "judged_on": dict(judged_on),
        "best": tuned.best,
        "figure": tuned.figure,
    }


def _search(project: Project) -> tuple[Tuned, dict[str, Any]]:
    from medloop.train.tune import tune as run_trials

    recipe, kind = project.recipe, kind_of(project)
    model = kind.model_of(project)
    section = recipe.tune
    sections = [model.model_dump_json(), recipe.train.model_dump_json(), section.model_dump_json(exclude={"trials"})]
    # A study belongs to its data, model and ranges: when one of them changes, a new study begins.
    name = f"{recipe.name} {content_name(project, *sections)}"
    storage = project.settings.tune.storage or f"sqlite:///{project.work.resolve() / 'tune' / 'study.db'}"
    params = {"metric": section.metric, **{f"space.{key}": space for key, space in section.space.items()}}
    with epoch_log(project) as log, log.run("tune", tags={"study": name}, params=params) as parent:

        def open_log(number: int, values: Mapping[str, Any]) -> LiveRun:
            return log.run(f"trial {number}", tags={"study": name}, params=values, parent=parent)

        judge, judged_on = kind.judge(project, model)
        tuned = run_trials(judge, section, storage=storage, name=name, open_log=open_log)
        parent.log({f"tune_{section.metric}": tuned.figure})
    return tuned, judged_on


def _write_tables_and_plots(project: Project, tuned: Tuned) -> None:
    from medloop.evaluate.write.tuning import history_plot, importance_plot

    folder, section = project.work / "tune", project.recipe.tune
    with atomic_file(folder / "trials.csv") as file:
        tuned.trials.to_csv(file, index=False)
    with atomic_file(folder / "history.png") as file:
        file.write(history_plot(tuned.trials, section.metric, best=tuned.figure))
    with atomic_file(folder / "importance.png") as file:
        file.write(importance_plot(tuned.importances, section.metric))


def _format(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
