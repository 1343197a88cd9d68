"""`medloop compare`: several models, cross-validated on the same folds of the training cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medloop.steps.kinds import kind_of
from medloop.steps.pipeline import last_message, run_stage
from medloop.steps.project import Project
from medloop.storage import atomic_file, write_text

if TYPE_CHECKING:
    from medloop.train.images.examples import ImageLearning
    from medloop.train.learning import TableLearning

BEFORE = ("ingest", "audit", "split", "prepare")


def compare_models(project: Project, names: Sequence[str], *, repeats: int) -> str:
    """Write MODEL_SELECTION.md and its plot; return a sentence that names the best."""
    from medloop.train.compare import compare_models as compare

    for stage in BEFORE:
        if last_message(project, stage) is None:
            run_stage(project, stage)
    kind = kind_of(project)
    learning = kind.learning(project)
    candidates = kind.candidates(project, learning, names)
    compared = compare(candidates, [_folds(project, learning, repeat) for repeat in range(repeats)])
    return _write(project, learning, [asdict(one) for one in compared], repeats=repeats)


def _folds(project: Project, learning: TableLearning | ImageLearning, repeat: int) -> Any:
    """Return other folds in every repeat, by patient; the validation cases stay out of all of them."""
    from medloop.data.split import fold_numbers

    section, inside = project.recipe.split, np.flatnonzero(learning.fold >= 0)
    labels = [learning.classes[y] for y in learning.y[inside]]
    groups = [learning.groups[row] for row in inside]
    folds = learning.fold.copy()
    folds[inside] = fold_numbers(groups, labels, folds=section.folds, seed=section.seed + repeat)
    return folds


def _write(
    project: Project, learning: TableLearning | ImageLearning, rows: list[dict[str, Any]], *, repeats: int
) -> str:
    from medloop.data import manifest
    from medloop.evaluate.write.model_selection import class_text, selection_plot, selection_text

    recipe = project.recipe
    text = selection_text(
        rows,
        name=recipe.name,
        cases=int((learning.fold >= 0).sum()),
        folds=recipe.split.folds,
        repeats=repeats,
        data_version=manifest.fingerprint(project.cases()),
        chosen_on=kind_of(project).chosen_on(project, learning),
    )
    folder = project.work if project.smoke else project.root
    with atomic_file(folder / "MODEL_SELECTION.png") as file:
        file.write(selection_plot(rows))
    write_text(folder / "MODEL_SELECTION.md", text)
    best = rows[0]["figures"]["roc_auc"]
    spread = f"{best['value']:.3f} [{best['lower']:.3f}, {best['upper']:.3f}]"
    shown = (folder / "MODEL_SELECTION.md").relative_to(project.root)
    return f"{rows[0]['name']} leads with AUC {spread}{class_text(rows[0], classes=len(learning.classes))}; see {shown}"
