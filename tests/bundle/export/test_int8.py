"""Eight bits serve where they decide as the exact numbers do, and nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from medloop.bundle import files
from medloop.bundle.export.int8 import Agreement, compare, quantise
from medloop.bundle.export.network_onnx import image_graph
from medloop.bundle.session import has_exact_int8, open_session
from medloop.models.backbone import build_classifier
from tests.bundle.image_bundles import PARAMS, SIZE, draw_discs, export_project

PICTURES = np.stack([disc.pixels for disc in draw_discs(24, seed=5)])[..., None]


def network_graph(backbone: str = "test_resnet", **params: Any) -> bytes:
    model = build_classifier(classes=3, channels=1, size=SIZE, **{**PARAMS, "backbone": backbone, **params})
    return image_graph(model, PICTURES)


def test_the_backbone_is_in_eight_bits_and_the_head_is_not() -> None:
    graph = network_graph()
    small = onnx.load_from_string(quantise(graph, PICTURES))
    kinds = {one.name: one.data_type for one in small.graph.initializer}
    assert kinds["head.weight"] == kinds["head.bias"] == onnx.TensorProto.FLOAT
    assert sum(kind == onnx.TensorProto.INT8 for kind in kinds.values()) >= 8
    assert len(small.SerializeToString()) < 0.5 * len(graph)
    takers = {node.op_type for node in small.graph.node if "head.weight" in node.input}
    assert takers == {"Gemm", "MatMul"}


def test_a_transformer_runs_in_eight_bits(tmp_path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        quantise(network_graph("test_vit"), PICTURES), providers=["CPUExecutionProvider"]
    )
    assert len(session.run(["logits"], {"image": PICTURES.transpose(0, 3, 1, 2).astype(np.float32)})[0]) == 24


@pytest.mark.parametrize(
    ("decisions", "auc_loss", "why"),
    [
        (1.0, 0.0, None),
        (0.99, 0.002, None),
        (0.985, 0.0, "int8 agrees with fp32 on 98.5% of 200 cases"),
        (1.0, 0.003, "int8 loses 0.0030 of AUC"),
        (1.0, float("nan"), "int8 loses nan of AUC"),
    ],
)
def test_the_bounds_of_agreement(decisions: float, auc_loss: float, why: str | None) -> None:
    against = Agreement(decisions=decisions, auc_loss=auc_loss, n=200).against
    assert (against is None) if why is None else why in str(against)


def test_agreement_counts_decisions_and_the_loss_of_auc() -> None:
    y = np.array([0, 0, 1, 1])
    exact = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    small = np.array([[0.9, 0.1], [0.25, 0.75], [0.3, 0.7], [0.2, 0.8]])
    found = compare(y, (exact, exact.argmax(1)), (small, small.argmax(1)), classes=("a", "b"), positive=("b",))
    assert found == Agreement(decisions=0.75, auc_loss=0.25, n=4)


def test_the_choice_and_its_reason_are_recorded(discs: Path) -> None:
    precision = json.loads((discs / "bundle" / files.META).read_text("utf-8"))["precision"]
    holds = precision["decisions_agree"] >= 0.99 and precision["auc_loss"] <= 0.002
    assert precision["used"] == ("int8" if holds else "fp32")
    assert bool(precision["reason"]) != holds
    assert precision["n"] == 100


def test_eight_bits_that_disagree_do_not_serve(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ranges taken from one black picture: everything brighter is cut off.
    monkeypatch.setattr("medloop.bundle.export.image.quantise", lambda graph, _: quantise(graph, PICTURES[:1] * 0))
    copy = tmp_path / "copy"
    shutil.copytree(discs, copy)
    meta = export_project(copy)
    assert meta["precision"]["used"] == "fp32"
    assert "int8" in meta["precision"]["reason"]
    model = onnx.load(copy / "bundle" / files.MODEL)
    assert not any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_the_recipe_may_ask_for_exact_numbers(discs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(discs, copy)
    precision = export_project(copy, precision="fp32")["precision"]
    assert precision == {"used": "fp32", "reason": "set by export.precision"}


def test_fast_int8_products_have_the_same_results_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = quantise(network_graph(), PICTURES)
    inputs = {"image": PICTURES.transpose(0, 3, 1, 2).astype(np.float32)}
    answers = []
    for exact in (has_exact_int8(), False):
        monkeypatch.setattr("medloop.bundle.session.has_exact_int8", lambda exact=exact: exact)
        answers.append(open_session(graph, threads=1).run(["logits", "cam"], inputs))
    for quick, careful in zip(*answers, strict=True):
        assert np.array_equal(quick, careful)
