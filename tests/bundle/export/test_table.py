"""The exported graph is the trained model: the same answers, typed inputs, and data only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from medloop.bundle.export.estimator_onnx import run_graph, table_graph
from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.models import MODELS
from medloop.models.estimator import read_estimator
from medloop.models.pipeline import model_frame, table_pipeline
from medloop.prepare.prepared_table import read_prepared
from medloop.prepare.table import TablePreparer
from tests.loop_project import ODD_NAMES, edit_recipe, new_table, run_stages, small_rows

BEFORE = ("ingest", "audit", "split", "prepare", "tune")
TABLE_MODELS = [name for name, model in MODELS.items() if model.learns == "table"]
QUICK: dict[str, dict[str, Any]] = {
    **{name: {"n_estimators": 20} for name in ("random_forest", "extra_trees", "gradient_boosting")},
    "mlp": {"hidden": 4, "max_iter": 2000},
}


def differences(pipeline: Any, graph: bytes, inputs: Any) -> float:
    logits, _ = run_graph(graph, inputs)
    return float(np.abs(np.exp(logits) - np.clip(pipeline.predict_proba(model_frame(inputs)), 1e-7, 1)).max())


@pytest.mark.parametrize("name", TABLE_MODELS)
@pytest.mark.parametrize("classes", [("benign", "malignant"), ("high", "low", "middle")], ids=["two", "three"])
def test_every_model_predicts_the_same_in_onnx(small: Path, name: str, classes: tuple[str, ...]) -> None:
    rows = small_rows(300, seed=5, classes=classes)
    preparer = read_prepared(small / "work" / "prepared").preparer
    inputs = preparer.prepare(
        [{column: None if row[column] in ("", "?") else row[column] for column in ODD_NAMES} for row in rows]
    )
    kinds = {column.name: column.kind for column in preparer.columns}
    pipeline = table_pipeline(name, QUICK.get(name, {}), kinds=kinds, seed=0)
    pipeline.fit(model_frame(inputs)[:200], [number % len(classes) for number in range(200)])
    graph = table_graph(pipeline, kinds).SerializeToString()
    strange = preparer.prepare(
        [dict.fromkeys(ODD_NAMES), {**dict.fromkeys(ODD_NAMES, 3.0), "label": "new", "prepare/variable": "日本"}]
    )
    assert differences(pipeline, graph, inputs) <= 1e-5
    assert differences(pipeline, graph, strange) <= 1e-5


def test_the_bundle_predicts_the_same_as_the_estimator(finished: Path) -> None:
    work = finished / "work"
    table = read_prepared(work / "prepared")
    predictor = Predictor.load(work / "bundle")
    expected = read_estimator(work / "trained" / "estimator.skops").predict_proba(
        model_frame(table.preparer.prepare(table.rows))
    )
    assert np.abs(np.exp(predictor.score(table.rows).logits) - np.clip(expected, 1e-7, 1)).max() <= 1e-5
    assert predictor.meta["parity"] <= 1e-5


def test_the_embedding_is_what_the_model_sees_after_preparation(small: Path) -> None:
    table = read_prepared(small / "work" / "prepared")
    predictor = Predictor.load(small / "work" / "bundle")
    prepare = read_estimator(small / "work" / "trained" / "estimator.skops").named_steps["prepare"]
    expected = prepare.transform(model_frame(table.preparer.prepare(table.rows)))
    assert predictor.score(table.rows).embedding == pytest.approx(expected, abs=1e-5)


AWKWARD = [
    *("c0", "c1", "one", "smallest", "clipped", "label", "probabilities", "estimate/prepared", "prepare/c0"),
    *("medloop/one", "_medloop/prepare/c0", "with space", " ", "Größe", "日本", "a.b", "x[0]", "'quoted'", "{x}", "N"),
]


def test_any_column_name_becomes_an_input() -> None:
    draw = np.random.default_rng(0)
    kinds = {name: "category" if number % 5 == 4 else "number" for number, name in enumerate(AWKWARD)}
    rows = [
        {name: str(draw.choice(["x", "y"])) if kind == "category" else draw.normal() for name, kind in kinds.items()}
        for _ in range(60)
    ]
    preparer = TablePreparer.from_json({"columns": [{"name": name, "kind": kind} for name, kind in kinds.items()]})
    inputs = preparer.prepare(rows)
    y = [int(row["c0"] + row["Größe"] > 0) for row in rows]
    pipeline = table_pipeline("logistic_regression", {}, kinds=kinds, seed=0).fit(model_frame(inputs), y)
    graph = table_graph(pipeline, kinds)
    assert sorted(one.name for one in graph.graph.input) == sorted(AWKWARD)
    assert differences(pipeline, graph.SerializeToString(), inputs) <= 1e-5


def test_the_graph_uses_only_standard_operators_and_no_other_file(small: Path) -> None:
    graph = onnx.load(str(small / "work" / "bundle" / "model.onnx"))
    assert {one.domain for one in graph.opset_import} <= {"", "ai.onnx.ml"}
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx.ml"}
    assert not any(one.data_location == onnx.TensorProto.EXTERNAL for one in graph.graph.initializer)


def test_a_model_that_misses_the_bound_is_no_bundle(small: Path, tmp_path: Path) -> None:
    project = new_table(tmp_path / "project", small_rows(120))
    edit_recipe(project, export={"parity": 1e-12})
    run_stages(project, *BEFORE, "train")
    with pytest.raises(UserError, match=r"differs from scikit-learn by .*, more than 1e-12 \(export\.parity\)"):
        run_stages(project, "export")
    assert not (project / "work" / "bundle").exists()


def test_the_bundle_records_its_provenance(finished: Path) -> None:
    meta = json.loads((finished / "work" / "bundle" / "bundle.json").read_text("utf-8"))
    edition = json.loads((finished / "work" / "edition.json").read_text("utf-8"))
    assert (meta["classes"], meta["positive"]) == (["benign", "malignant"], ["malignant"])
    assert meta["edition"] == edition["id"]
    assert len(meta["data_version"]) == 64
    assert meta["calibration"]["n"] == 456
    assert meta["decide"] == {"per": "case"}
    assert meta["recipe"]["split"]["folds"] == 3
    assert {"medloop", "scikit-learn", "skl2onnx"} <= set(meta["environment"]["packages"])


def test_the_reference_holds_numbers_only(finished: Path) -> None:
    with np.load(finished / "work" / "bundle" / "reference.npz", allow_pickle=False) as reference:
        assert {name: reference[name].dtype.kind for name in reference} == dict.fromkeys(
            ("embedding", "probabilities", "mean", "precision"), "f"
        )
        assert reference["embedding"].shape == (456, 30)


def test_three_classes_work_with_and_without_a_positive_one(tmp_path: Path) -> None:
    classes = ["high", "low", "middle"]
    project = new_table(tmp_path / "three", small_rows(150, classes=classes), positive=[])
    run_stages(project, *BEFORE, "train", "export", "evaluate")
    without = json.loads((project / "work" / "report" / "report.json").read_text("utf-8"))
    assert without["threshold"] == {"value": None, "rule": "the likeliest class"}
    assert without["confusion"]["names"] == classes
    assert set(without["test_counts"]) == set(classes)
    edit_recipe(project, data={"positive": ["high", "middle"]}, export={"threshold": "sensitivity >= 0.9"})
    run_stages(project, "prepare", "train", "export", "evaluate")
    named = json.loads((project / "work" / "report" / "report.json").read_text("utf-8"))
    assert 0 < named["threshold"]["value"] < 1
    assert named["confusion"]["names"] == ["low", "high or middle"]
    answers = Predictor.load(project / "work" / "bundle").predict([dict.fromkeys(ODD_NAMES)])
    assert set(answers[0].probabilities) == set(classes)
