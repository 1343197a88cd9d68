"""The recipe (`params.yaml`): what is learned, and the rules that a model has to pass."""

from medloop.recipe.kinds import Kind, check_kind
from medloop.recipe.recipe import Recipe, load_recipe
from medloop.recipe.sections import (
    AuditSection,
    AugmentSection,
    DataSection,
    EvaluateSection,
    ExportSection,
    GateRule,
    GateSection,
    ModelSection,
    PrepareSection,
    SearchRange,
    SplitSection,
    TrainSection,
    TuneSection,
)
from medloop.recipe.strict import Strict, read_yaml, validated

__all__ = [
    "AuditSection",
    "AugmentSection",
    "DataSection",
    "EvaluateSection",
    "ExportSection",
    "GateRule",
    "GateSection",
    "Kind",
    "ModelSection",
    "PrepareSection",
    "Recipe",
    "SearchRange",
    "SplitSection",
    "Strict",
    "TrainSection",
    "TuneSection",
    "check_kind",
    "load_recipe",
    "read_yaml",
    "validated",
]
