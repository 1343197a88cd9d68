"""`medloop compare`: the training cases, several models, the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medloop.errors import UnknownName, UserError
from medloop.models import MODELS, find_model, hyperparameters
from medloop.recipe import ModelSection
from medloop.steps.images import CHAMPION, has_images, with_weights
from medloop.steps.pipeline import run_stage, said_before
from medloop.steps.project import Project
from medloop.storage import atomic_file, write_text

if TYPE_CHECKING:
    from medloop.train.compare import Candidate
    from medloop.train.image_learning import ImageLearning
    from medloop.train.learning import TableLearning

BEFORE = ("ingest", "audit", "split", "prepare")
EXAMPLE = "medloop compare resnet18 mobilenetv3_small_100"


def compare_models(project: Project, names: Sequence[str], *, repeats: int) -> str:
    """Write MODEL_SELECTION.md and its plot; the sentence names the best."""
    from medloop.train.compare import compare_models as compare

    for stage in BEFORE:
        if said_before(project, stage) is None:
            run_stage(project, stage)
    learning = _read(project)
    candidates = (_backbones if has_images(project) else _tables)(project, learning, names)
    compared = compare(candidates, [_folds(project, learning, repeat) for repeat in range(repeats)])
    return _write(project, learning, [asdict(one) for one in compared], repeats=repeats)


def _read(project: Project) -> Any:
    prepared, splits = project.work / "prepared", project.work / "splits.parquet"
    if has_images(project):
        from medloop.train.image_learning import read_image_learning

        return read_image_learning(prepared, splits)
    from medloop.train.learning import read_learning

    return read_learning(prepared, splits)


def _folds(project: Project, learning: TableLearning | ImageLearning, repeat: int) -> Any:
    """Other folds in every repeat, by patient; the cases that validate stay out of all of them."""
    from medloop.data.split import fold_numbers

    section, inside = project.recipe.split, np.flatnonzero(learning.fold >= 0)
    labels = [learning.classes[y] for y in learning.y[inside]]
    groups = [learning.groups[row] for row in inside]
    folds = learning.fold.copy()
    folds[inside] = fold_numbers(groups, labels, folds=section.folds, seed=section.seed + repeat)
    return folds


def _tables(project: Project, learning: TableLearning, names: Sequence[str]) -> list[Candidate]:
    """The recipe's hyperparameters for the recipe's model, the defaults for the others."""
    from medloop.train.compare import table_candidate

    known = [name for name, model in MODELS.items() if model.learns == "table"]
    own, seed = project.recipe.model, project.recipe.train.seed
    candidates = []
    for name in names or known:
        model = find_model(name)
        if model.learns != "table":
            raise UnknownName("a table model", name, known)
        params = hyperparameters(name, own.params if own.name == name else {})
        candidates.append(table_candidate(learning, name, params, says=model.says, seed=seed))
    return candidates


def _backbones(project: Project, learning: ImageLearning, names: Sequence[str]) -> list[Candidate]:
    """`resnet18` begins as the recipe says, `resnet18=imagenet` with other weights; all else is as in the recipe."""
    from medloop.train.compare_images import image_candidate

    if not names:
        raise UserError("a comparison of backbones needs their names", found="none", hint=f"for instance `{EXAMPLE}`")
    cache, root, section = project.work / "cache", project.root, project.recipe.train
    return [
        image_candidate(learning, _with_backbone(project, name), section, name=name, cache=cache, root=root)
        for name in names
    ]


def _with_backbone(project: Project, name: str) -> ModelSection:
    own = project.recipe.model
    backbone, _, weights = name.partition("=")
    weights = weights or str(own.params.get("weights", "none"))
    is_other = backbone != hyperparameters(own.name, own.params)["backbone"]
    if is_other and "=" not in name and weights not in ("none", "imagenet"):
        raise UserError(
            "each backbone must begin with weights of its own",
            found=f"{backbone}, and model.weights: {weights} in the recipe, which is for another",
            hint=f"say which: `medloop compare {backbone}=imagenet`, or =none, or =path/of/its.safetensors",
        )
    model = ModelSection.model_validate({**own.model_dump(), "backbone": backbone, "weights": weights})
    return with_weights(project, model, CHAMPION) if weights == CHAMPION else model


def _write(
    project: Project, learning: TableLearning | ImageLearning, rows: list[dict[str, Any]], *, repeats: int
) -> str:
    from medloop.data import manifest
    from medloop.evaluate.comparison import class_text, selection_plot, selection_text
    from medloop.train.image_learning import ImageLearning

    recipe = project.recipe
    text = selection_text(
        rows,
        name=recipe.name,
        cases=int((learning.fold >= 0).sum()),
        folds=recipe.split.folds,
        repeats=repeats,
        data_version=manifest.fingerprint(project.cases()),
        chosen_on=_chosen_on(project, int(learning.is_val.sum())) if isinstance(learning, ImageLearning) else "",
    )
    folder = project.work if project.smoke else project.root
    with atomic_file(folder / "MODEL_SELECTION.png") as file:
        file.write(selection_plot(rows))
    write_text(folder / "MODEL_SELECTION.md", text)
    best = rows[0]["figures"]["roc_auc"]
    spread = f"{best['value']:.3f} [{best['lower']:.3f}, {best['upper']:.3f}]"
    shown = (folder / "MODEL_SELECTION.md").relative_to(project.root)
    return f"{rows[0]['name']} leads with AUC {spread}{class_text(rows[0], classes=len(learning.classes))}; see {shown}"


def _chosen_on(project: Project, val: int) -> str:
    """Which cases chose what in every fold."""
    mode = project.recipe.train.mode
    what = "the strength of the head" if mode == "head" else "the epoch"
    where = f"{val} validation cases" if val else "the next fold"
    times = " Features that were in the cache already took no time." if mode == "head" else ""
    return f"Mode {mode}: in every fold {what} was chosen on {where}, and the held-out fold only measured.{times}"
