"""`medloop compare`: the training cases, several models, the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from medloop.errors import UnknownName
from medloop.models import MODELS, find_model, hyperparameters
from medloop.steps.pipeline import run_stage, said_before
from medloop.steps.project import Project
from medloop.storage import atomic_file, write_text

BEFORE = ("ingest", "audit", "split", "prepare")


def compare_models(project: Project, names: Sequence[str], *, repeats: int) -> str:
    """Write MODEL_SELECTION.md and its plot; the sentence names the best."""
    from medloop.data import manifest
    from medloop.data.split import fold_numbers
    from medloop.evaluate.comparison import selection_plot, selection_text
    from medloop.train.compare import compare_models as compare
    from medloop.train.learning import read_learning

    for stage in BEFORE:
        if said_before(project, stage) is None:
            run_stage(project, stage)
    recipe = project.recipe
    learning = read_learning(project.work / "prepared", project.work / "splits.parquet")
    labels = [learning.classes[y] for y in learning.y]
    folds = [
        fold_numbers(learning.groups, labels, folds=recipe.split.folds, seed=recipe.split.seed + repeat)
        for repeat in range(repeats)
    ]
    chosen = [(name, _params(project, name)) for name in names or _all_for_tables()]
    compared = compare(learning, chosen, folds, seed=recipe.train.seed)
    rows = [{**asdict(one), "says": MODELS[one.name].says} for one in compared]
    version = manifest.fingerprint(project.cases())
    text = selection_text(
        rows, name=recipe.name, cases=len(labels), folds=recipe.split.folds, repeats=repeats, data_version=version
    )
    folder = project.work if project.smoke else project.root
    with atomic_file(folder / "MODEL_SELECTION.png") as file:
        file.write(selection_plot(rows))
    write_text(folder / "MODEL_SELECTION.md", text)
    best = rows[0]["figures"]["roc_auc"]
    spread = f"{best['value']:.3f} [{best['lower']:.3f}, {best['upper']:.3f}]"
    shown = (folder / "MODEL_SELECTION.md").relative_to(project.root)
    return f"{rows[0]['name']} leads with AUC {spread}; see {shown}"


def _all_for_tables() -> list[str]:
    return [name for name, model in MODELS.items() if model.learns == "table"]


def _params(project: Project, name: str) -> dict[str, object]:
    """The recipe's hyperparameters for the recipe's model, the defaults for the others."""
    if find_model(name).learns != "table":
        raise UnknownName("a table model", name, _all_for_tables())
    model = project.recipe.model
    return hyperparameters(name, model.params if model.name == name else {})
