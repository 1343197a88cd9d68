"""The stage `tune`: the ranges of the recipe, tried on the cases to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from medloop.recipe import ModelSection
from medloop.steps.images import check_export, has_images, model_of
from medloop.steps.project import Project
from medloop.steps.tracked import content_name, epoch_log
from medloop.storage import atomic_file, write_text

if TYPE_CHECKING:
    from medloop.registry.epochs import LiveRun
    from medloop.train.tune import Judge, Tuned


def tune(project: Project) -> str:
    """splits, prepared -> work/tuned.yaml, and work/tune/ to look at."""
    section = project.recipe.tune
    if section.trials == 0:
        write_text(project.work / "tuned.yaml", yaml.safe_dump({}))
        return "no trials asked for (tune.trials)"
    tuned = _search(project)
    _write_tables_and_plots(project, tuned)
    write_text(project.work / "tuned.yaml", yaml.safe_dump(tuned.best))
    values = ", ".join(f"{name} {_text(value)}" for name, value in tuned.best.items())
    found = f"best {section.metric} {tuned.figure:.3f} with {values}"
    return f"{len(tuned.trials)} trials, {found}; see {project.shown('tune')}/"


def _search(project: Project) -> Tuned:
    from medloop.train.tune import tune as run_trials

    recipe, model = project.recipe, model_of(project)
    section = recipe.tune
    sections = [model.model_dump_json(), recipe.train.model_dump_json(), section.model_dump_json(exclude={"trials"})]
    # A study belongs to its data, model and ranges: when one changes, another begins.
    name = f"{recipe.name} {content_name(project, *sections)}"
    storage = project.settings.tune.storage or f"sqlite:///{project.work.resolve() / 'tune' / 'study.db'}"
    params = {"metric": section.metric, **{f"space.{key}": space for key, space in section.space.items()}}
    with epoch_log(project) as log, log.run("tune", tags={"study": name}, params=params) as parent:

        def open_log(number: int, values: Mapping[str, Any]) -> LiveRun:
            return log.run(f"trial {number}", tags={"study": name}, params=values, parent=parent)

        tuned = run_trials(_judge(project, model), section, storage=storage, name=name, open_log=open_log)
        parent.log({f"tune_{section.metric}": tuned.figure})
    return tuned


def _judge(project: Project, model: ModelSection) -> Judge:
    """Images are judged on the validation cases, tables by cross-validation; neither sees test or calibration cases."""
    recipe, prepared, splits = project.recipe, project.work / "prepared", project.work / "splits.parquet"
    metric = recipe.tune.metric
    if has_images(project):
        from medloop.train.image_learning import read_image_learning
        from medloop.train.tune_images import image_judge

        check_export(project, model.name, model.params)
        learning = read_image_learning(prepared, splits)
        return image_judge(learning, model, recipe.train, metric, cache=project.work / "cache", root=project.root)
    from medloop.train.learning import read_learning
    from medloop.train.tune import table_judge

    return table_judge(read_learning(prepared, splits), model, metric, seed=recipe.train.seed)


def _write_tables_and_plots(project: Project, tuned: Tuned) -> None:
    from medloop.evaluate.tuning import history_plot, importance_plot

    folder, section = project.work / "tune", project.recipe.tune
    with atomic_file(folder / "trials.csv") as file:
        tuned.trials.to_csv(file, index=False)
    with atomic_file(folder / "history.png") as file:
        file.write(history_plot(tuned.trials, section.metric, best=tuned.figure))
    with atomic_file(folder / "importance.png") as file:
        file.write(importance_plot(tuned.importances, section.metric))


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
