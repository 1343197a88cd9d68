"""The recipe as a whole, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from medloop.errors import UserError
from medloop.recipe.sections import (
    AuditSection,
    DataSection,
    EvaluateSection,
    ExportSection,
    GateSection,
    ModelSection,
    PrepareSection,
    SplitSection,
    TrainSection,
    TuneSection,
)
from medloop.recipe.strict import Strict, read_yaml, validated

RECIPE_FILE = "params.yaml"


class Recipe(Strict):
    """Everything that decides what is learned; stored in every bundle."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,99}$")] = "medloop"
    data: DataSection = DataSection()
    audit: AuditSection = AuditSection()
    split: SplitSection = SplitSection()
    prepare: PrepareSection = PrepareSection()
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    tune: TuneSection = TuneSection()
    export: ExportSection = ExportSection()
    evaluate: EvaluateSection = EvaluateSection()
    gate: GateSection = GateSection()

    def with_values(self, section: str, **values: Any) -> Recipe:
        """Return a copy with some values of a section replaced and checked."""
        # Only what was set: a default that is written out would look like a choice of the user.
        content = self.model_dump(exclude_unset=True)
        content[section] = {**content.get(section, {}), **values}
        return validated(Recipe, content, where=RECIPE_FILE)


def load_recipe(folder: Path) -> Recipe:
    """Load the recipe of the project in this folder."""
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise UserError(
            f"There is no {RECIPE_FILE} in this folder.",
            "Change to the project's folder, or create a project with `medloop new NAME`.",
        )
    return validated(Recipe, read_yaml(path), where=RECIPE_FILE)
