"""Tables: a case is a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medloop.errors import UnknownName
from medloop.recipe import AuditSection, Kind, ModelSection, Recipe
from medloop.steps.kinds.kind import AuditContext, DataKind, DecisionCases, task_of
from medloop.steps.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from medloop.audit.findings import Audit
    from medloop.bundle.export.table import Origin
    from medloop.train.compare import Candidate
    from medloop.train.learning import TableLearning
    from medloop.train.tune import Judge


class Tables(DataKind):
    """Rows of measurements."""

    name: Kind = "table"

    def audit(self, cases: Any, section: AuditSection, context: AuditContext) -> Audit:
        """Examine the columns and rows, against an earlier table where there is one."""
        from medloop.audit.tables.checks import audit_table
        from medloop.audit.tables.page import write_table_audit

        result = audit_table(cases, section, reference=context.reference)
        write_table_audit(result, cases, section, context.folder)
        return result

    def prepare(self, project: Project) -> str:
        """Write typed columns and the preparer that made them."""
        from medloop.data import manifest
        from medloop.prepare.prepared_table import write_prepared
        from medloop.prepare.table import TablePreparer

        cases = manifest.usable(project.cases())
        values = {str(name): column.tolist() for name, column in manifest.values(cases).astype(object).items()}
        preparer = TablePreparer.fit(
            values, categories=project.recipe.data.categories, max_categories=project.recipe.prepare.max_categories
        )
        task = task_of(project, cases["label"].unique().tolist())
        write_prepared(cases, preparer, task, project.work / "prepared")
        kinds = [column.kind for column in preparer.columns]
        numbers, categories = kinds.count("number"), kinds.count("category")
        return f"{len(cases)} rows, {numbers} numeric and {categories} categorical columns"

    def learning(self, project: Project) -> TableLearning:
        """Return the prepared training rows."""
        from medloop.train.learning import read_learning

        return read_learning(project.work / "prepared", project.work / "splits.parquet")

    def judge(self, project: Project, model: ModelSection) -> tuple[Judge, dict[str, Any]]:
        """Score a trial by cross-validation."""
        from medloop.train.tune import table_judge

        rows, recipe = self.learning(project), project.recipe
        judged_on = {"part": "folds", "folds": rows.fold_count, "cases": len(rows.y)}
        return table_judge(rows, model, recipe.tune.metric, seed=recipe.train.seed), judged_on

    def candidates(self, project: Project, learning: TableLearning, names: Sequence[str]) -> list[Candidate]:
        """Return models with the recipe's hyperparameters for the recipe's model, the defaults for the others."""
        from medloop.models import MODELS, find_model, hyperparameters
        from medloop.train.compare import table_candidate

        known = [name for name, model in MODELS.items() if model.learns == "table"]
        own, seed = project.recipe.model, project.recipe.train.seed
        candidates = []
        for name in names or known:
            model = find_model(name)
            if model.learns != "table":
                raise UnknownName("a table model", name, known)
            params = hyperparameters(name, own.params if own.name == name else {})
            candidates.append(table_candidate(learning, name, params, says=model.summary, seed=seed))
        return candidates

    def train(self, project: Project, tuned: Mapping[str, Any]) -> str:
        """Cross-validate, then fit on all training rows."""
        from medloop.train.tables.fit import train_table

        recipe = project.recipe
        result = train_table(
            self.learning(project), recipe.model, recipe.train, tuned=tuned, folder=project.work / "trained"
        )
        accuracy, auc = result.history["accuracy"], result.history["roc_auc"]
        return (
            f"{recipe.model.name}, {len(result.history)} folds: AUC {auc.mean():.3f} +- {auc.std():.3f}, accuracy "
            f"{accuracy.mean():.3f} +- {accuracy.std():.3f} before the export sets the threshold"
        )

    def export(self, project: Project, origin: Origin) -> str:
        """Write one ONNX graph with an input per column."""
        from medloop.bundle.export.table import export_table
        from medloop.bundle.operating_point import describe_threshold

        work, section = project.work, project.recipe.export
        meta = export_table(
            work / "trained", work / "prepared", work / "splits.parquet", section, origin=origin, folder=work / "bundle"
        )
        return f"ONNX differs by {meta['parity']:.1g}, {describe_threshold(meta['threshold'])}"

    def decision_cases(self, table: pd.DataFrame, recipe: Recipe) -> DecisionCases:
        """Return the training cases, each with an out-of-fold prediction."""
        return DecisionCases(rows=table[table["part"] == "train"], name="out-of-fold training cases")

    def curl_arguments(self, case: Mapping[str, Any], folder: str) -> str:
        """Return the row as JSON."""
        features = json.dumps([value for name, value in case.items() if name.startswith("row.")])
        return f"-H 'Content-Type: application/json' \\\n                 -d '{{\"features\": {features}}}'"
