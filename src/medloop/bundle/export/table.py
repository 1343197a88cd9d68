"""The stage `export` for tables: ONNX with parity, then the decision rule, sealed in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle import files
from medloop.bundle.calibrate import Source, fit_decision, fit_outliers, log_probabilities, sample
from medloop.bundle.export.estimator_onnx import check_parity, run_graph, table_graph
from medloop.bundle.export.fold_figures import SERVED_RULE, FoldScores, served_figures
from medloop.errors import UserError
from medloop.models.estimator import read_estimator
from medloop.models.pipeline import model_frame
from medloop.prepare.prepared_table import PreparedTable, read_prepared
from medloop.prepare.table import Inputs
from medloop.recipe import ExportSection
from medloop.storage import atomic_folder, read_json, read_parquet, write_json

PARITY = 1e-5
REFERENCE_CASES = 1000
TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The provenance of a bundle."""

    name: str
    recipe: Mapping[str, Any]
    data_version: str
    edition: str
    smoke: bool
    git_commit: str | None
    parent: str | None = None
    # What the stages before the export recorded, by stage.
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The training cases with out-of-fold scores."""

    scores: FoldScores
    inputs: Inputs


def export_table(
    trained: Path, prepared: Path, splits: Path, section: ExportSection, *, origin: Origin, folder: Path
) -> dict[str, Any]:
    """Write the bundle, and return its description."""
    table = read_prepared(prepared)
    preparer, task = table.preparer, table.task
    model = read_json(trained / "model.json")
    held_out = _held_out(trained, splits, table)
    pipeline = read_estimator(trained / "estimator.skops")
    graph = table_graph(pipeline, {column.name: column.kind for column in preparer.columns}).SerializeToString()
    logits, embedding = run_graph(graph, held_out.inputs)
    parity = check_parity(
        pipeline, model_frame(held_out.inputs), logits, bound=section.parity or PARITY, name=model["name"]
    )
    outliers = fit_outliers(embedding, quantile=section.outlier_quantile, seed=model["seed"])
    scores = held_out.scores
    # Every row is a case of its own, even where rows share a patient.
    section = section.model_copy(update={"per": "case"})
    fitted = fit_decision(scores.logits, scores.y, section, task, source=_source(scores), groups=scores.groups)
    meta = {
        "format": files.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **origin_fields(origin, temperature_fitted=section.calibrate),
        **task,
        "model": model,
        "preparer": preparer.to_json(),
        "decide": {"per": "case"},
        **fitted.meta,
        "outliers": {"limit": outliers.limit, "quantile": section.outlier_quantile, "distance": "Mahalanobis"},
        "parity": parity,
        "cross_validation": served_figures(scores, section, task),
        "cross_validation_rule": SERVED_RULE,
        "environment": read_json(trained / "environment.json"),
    }
    chosen = sample(len(scores.y), size=REFERENCE_CASES, seed=model["seed"])
    with atomic_folder(folder) as target:
        (target / files.MODEL).write_bytes(graph)
        write_json(target / files.META, meta)
        with (target / files.REFERENCE).open("wb") as file:
            np.savez_compressed(
                file,
                embedding=embedding[chosen],
                probabilities=fitted.probabilities[chosen],
                mean=outliers.mean,
                precision=outliers.precision,
            )
        files.seal(target)
    return meta


def _source(scores: FoldScores) -> Source:
    folds = len(set(scores.fold.tolist()))
    return Source(fitted_on="out-of-fold training cases", method="out_of_fold", folds=folds, refitted=True)


def origin_fields(origin: Origin, **export: Any) -> dict[str, Any]:
    """Return the provenance as in bundle.json, with the facts of the export itself."""
    return {
        "name": origin.name,
        "recipe": dict(origin.recipe),
        "data_version": origin.data_version,
        "edition": origin.edition,
        "smoke": origin.smoke,
        "git_commit": origin.git_commit,
        "parent": origin.parent,
        "facts": {**origin.facts, "export": export},
    }


def _held_out(trained: Path, splits: Path, prepared: PreparedTable) -> HeldOut:
    table = read_parquet(trained / "out_of_fold.parquet")
    rows = dict(zip(prepared.case_ids, prepared.rows, strict=True))
    parts = read_parquet(splits).set_index("case_id").reindex(table["case_id"])
    if not (parts["part"] == TRAIN).all():
        raise UserError(
            "The split has changed since the model was trained: some of its training cases are no longer in that part.",
            "Run `medloop train`.",
        )
    shares = table[[name for name in table if str(name).startswith("p")]].to_numpy(float)
    scores = FoldScores(
        logits=log_probabilities(shares),
        y=table["y"].to_numpy(),
        fold=parts["fold"].to_numpy(np.int64),
        groups=table["group"].tolist(),
    )
    return HeldOut(scores=scores, inputs=prepared.preparer.prepare([rows[name] for name in table["case_id"]]))
