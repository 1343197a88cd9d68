"""The interface of a kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.decode.kept import Derived
from medloop.decode.raster import DEFAULT_RULE
from medloop.decode.rule import DecodeRule
from medloop.errors import UserError
from medloop.recipe import AuditSection, Kind, ModelSection, Recipe
from medloop.steps.kinds.image_files import FileBytes
from medloop.steps.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from medloop.audit.findings import Audit
    from medloop.bundle.export.table import Origin
    from medloop.evaluate.figures.baselines import BaselineModel
    from medloop.train.compare import Candidate
    from medloop.train.tune import Judge


@dataclass(frozen=True, kw_only=True)
class DecisionCases:
    """The rows of the split that temperature, threshold and conformal quantiles will be fitted on."""

    rows: pd.DataFrame
    name: str
    choose_epoch: bool = False


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """Where an audit reads and writes: below `root`, results to `folder`, summaries of images from `cache`."""

    root: Path
    folder: Path
    cache: Path
    rule: DecodeRule
    # An earlier table to compare with.
    reference: Any = None
    # Whether findings name the files of cases.
    names: bool = False


class DataKind(ABC):
    """How data of one kind is audited, prepared, learned from, exported and read.

    A method with a body is what holds unless a kind says otherwise.
    """

    name: Kind

    def patient_key(self, project: Project) -> bytes | None:
        """Return the key for hashing patients whom the files themselves name, if they can."""
        return None

    def read_rule(self, recipe: Recipe) -> DecodeRule:
        """Return how ingest and audit read a file."""
        return DEFAULT_RULE

    def derived(self, recipe: Recipe) -> tuple[Derived, ...]:
        """Return what ingest stores of each decoded file, for the stages after it."""
        return ()

    @abstractmethod
    def audit(self, cases: Any, section: AuditSection, context: AuditContext) -> Audit:
        """Examine a manifest and write the findings and their page."""

    @abstractmethod
    def prepare(self, project: Project) -> str:
        """Write the model's input."""

    def model_of(self, project: Project) -> ModelSection:
        """Return the recipe's model, with everything resolved that lies outside the recipe."""
        return project.recipe.model

    @abstractmethod
    def learning(self, project: Project) -> Any:
        """Return the prepared training cases."""

    @abstractmethod
    def judge(self, project: Project, model: ModelSection) -> tuple[Judge, dict[str, Any]]:
        """Return what scores a trial, and on which cases: validation cases or folds."""

    @abstractmethod
    def candidates(self, project: Project, learning: Any, names: Sequence[str]) -> list[Candidate]:
        """Return the models of these names, ready to be compared."""

    def chosen_on(self, project: Project, learning: Any) -> str:
        """Describe which cases chose what in every fold of a comparison."""
        return ""

    @abstractmethod
    def train(self, project: Project, tuned: Mapping[str, Any]) -> str:
        """Write the trained model."""

    @abstractmethod
    def export(self, project: Project, origin: Origin) -> str:
        """Write the bundle."""

    def files_of(self, project: Project, cases: Any) -> FileBytes | None:
        """Return the bytes of the cases' files, where cases are files."""
        return None

    def baseline(self, project: Project, case_ids: Sequence[str]) -> BaselineModel | None:
        """Return the predictions of an untrained model on these cases, where that is informative."""
        return None

    def starting_weights(self, project: Project) -> dict[str, str]:
        """Return a hash of each set of weights that a training may start from, by what it is called."""
        return {}

    @abstractmethod
    def decision_cases(self, table: pd.DataFrame, recipe: Recipe) -> DecisionCases:
        """Return the cases that the export will fit its decisions on, from the split and the mode of training."""

    @abstractmethod
    def curl_arguments(self, case: Mapping[str, Any], folder: str) -> str:
        """Return what curl needs to ask the service about a case."""


def task_of(project: Project, labels: Sequence[str]) -> dict[str, Any]:
    """Return the classes in their fixed order and the positive ones among them."""
    from medloop.data import find_source

    data = project.recipe.data
    classes = data.classes or tuple(sorted(labels))
    if not set(data.positive) <= set(classes) or (len(classes) == 2 and len(data.positive) != 1):
        positive = ", ".join(data.positive)
        raise UserError(
            f"data.positive is {positive or 'empty'}, but the classes are {', '.join(classes)}.",
            f"Name the positive class, for instance `data.positive: [{classes[-1]}]` in params.yaml.",
        )
    return {"task": find_source(data.source).gives, "classes": list(classes), "positive": list(data.positive)}
