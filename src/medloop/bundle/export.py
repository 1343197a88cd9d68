"""The export stage for a table: ONNX with parity, then everything that decides, sealed in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medloop.bundle import files
from medloop.bundle.calibrate import fit_decision, fit_outliers, log_probabilities, sample
from medloop.bundle.decide import FloatArray, IntArray
from medloop.bundle.export_table import check_parity, run_graph, table_graph
from medloop.models.estimator import read_estimator
from medloop.models.pipeline import model_frame
from medloop.prepare.prepared_table import PreparedTable, read_prepared
from medloop.prepare.table import Inputs
from medloop.recipe import ExportSection
from medloop.storage import atomic_folder, read_json, write_json

PARITY = 1e-5
REFERENCE_CASES = 1000


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a bundle says of where it comes from."""

    name: str
    recipe: Mapping[str, Any]
    data_version: str
    edition: str
    smoke: bool
    git_commit: str | None
    parent: str | None = None


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The training cases with probabilities from models that did not see them."""

    y: IntArray
    logits: FloatArray
    inputs: Inputs


def export_table(
    trained: Path, prepared: Path, section: ExportSection, *, origin: Origin, folder: Path
) -> dict[str, Any]:
    """Write the bundle; its description is returned."""
    table = read_prepared(prepared)
    preparer, task = table.preparer, table.task
    model = read_json(trained / "model.json")
    held_out = _held_out(trained, table)
    pipeline = read_estimator(trained / "estimator.skops")
    graph = table_graph(pipeline, {column.name: column.kind for column in preparer.columns}).SerializeToString()
    logits, embedding = run_graph(graph, held_out.inputs)
    parity = check_parity(
        pipeline, model_frame(held_out.inputs), logits, bound=section.parity or PARITY, name=model["name"]
    )
    outliers = fit_outliers(embedding, quantile=section.outlier_quantile, seed=model["seed"])
    fitted = fit_decision(held_out.logits, held_out.y, section, task, fitted_on="out-of-fold training cases")
    meta = {
        "format": files.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **origin_fields(origin),
        **task,
        "model": model,
        "preparer": preparer.to_json(),
        "decide": {"per": "case"},
        **fitted.meta,
        "outliers": {"limit": outliers.limit, "quantile": section.outlier_quantile, "distance": "Mahalanobis"},
        "parity": parity,
        "cross_validation": _folds(trained),
        "environment": read_json(trained / "environment.json"),
    }
    chosen = sample(len(held_out.y), most=REFERENCE_CASES, seed=model["seed"])
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


def _folds(trained: Path) -> dict[str, list[float | None]]:
    history = pd.read_csv(trained / "history.csv").astype(object)
    return {str(name): column.where(column.notna(), None).tolist() for name, column in history.items()}


def origin_fields(origin: Origin) -> dict[str, Any]:
    """Where the bundle comes from, in the words of bundle.json."""
    return {
        "name": origin.name,
        "recipe": dict(origin.recipe),
        "data_version": origin.data_version,
        "edition": origin.edition,
        "smoke": origin.smoke,
        "git_commit": origin.git_commit,
        "parent": origin.parent,
    }


def _held_out(trained: Path, prepared: PreparedTable) -> HeldOut:
    out_of_fold = pd.read_parquet(trained / "out_of_fold.parquet")
    rows = dict(zip(prepared.case_ids, prepared.rows, strict=True))
    shares = out_of_fold[[name for name in out_of_fold if str(name).startswith("p")]].to_numpy(float)
    return HeldOut(
        y=out_of_fold["y"].to_numpy(),
        logits=log_probabilities(shares),
        inputs=prepared.preparer.prepare([rows[name] for name in out_of_fold["case_id"]]),
    )
