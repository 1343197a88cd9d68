"""Challengers that differ from the champion, and what is known of the shadow that asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.case import Row
from medloop.metrics.intervals.proportions import wilson
from medloop.registry.store import ModelStore
from medloop.serve.shadow.report import report_path
from medloop.settings import Settings
from medloop.storage import read_json
from tests.registry.versions import bundle_like, report_of, verdict_on

# This age lets the model of `hanging` count for longer than anybody lives.
FOR_EVER = 1e15


def contested_store(golden: Path, root: Path) -> ModelStore:
    """The first version serves and the second is stricter."""
    store = ModelStore(root / "models")
    register(store, bundle_like(golden, root / "one", name="one"))
    store.promote(1, by="me")
    register(store, strict(golden, root / "two"))
    return store


def register(store: ModelStore, bundle: Path) -> int:
    report = report_of(bundle, bundle.with_name(f"{bundle.name}-report"))
    return store.register(bundle, report, verdict_on(bundle)).number


def strict(golden: Path, folder: Path) -> Path:
    """The golden bundle, but less sure of itself and with another threshold, so that it decides otherwise at times."""
    calibration = {**files.read_meta(golden)["calibration"], "temperature": 0.6}
    return bundle_like(golden, folder, calibration=calibration, threshold={"value": 0.1, "rule": "sensitivity >= 0.99"})


def hanging(golden: Path, folder: Path) -> Path:
    """The golden bundle, but first it counts up to the age."""
    bundle_like(golden, folder, name="hanging")
    model = onnx.load(str(folder / files.MODEL))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["quick" if name == "logits" else name for name in node.output]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes_on"]),
            helper.make_node("Add", ["sum", "nothing"], ["next"]),
        ],
        "count",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    graph.initializer.append(helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]))
    graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [], [0.0]))
    graph.node.extend(
        [
            helper.make_node("Max", ["age (years)", "none"], ["from_none"]),
            helper.make_node("ReduceMax", ["from_none"], ["oldest"], keepdims=0),
            helper.make_node("Cast", ["oldest"], ["times"], to=TensorProto.INT64),
            helper.make_node("Loop", ["times", "always", "quick"], ["logits"], body=body),
        ]
    )
    onnx.save(model, str(folder / files.MODEL))
    files.seal(folder)
    return folder


def found(store: ModelStore) -> dict[str, Any]:
    """What was written down last."""
    file = report_path(Settings(), store.folder.parent)
    content: dict[str, Any] = read_json(file) if file.is_file() else {"scored": 0, "why": None, "failed": {}}
    return content


def shadows() -> dict[int, int]:
    """The shadows that run, and whose children they are."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if b"medloop.serve.shadow.process" in command:
            parents[int(process.name)] = parent
    return parents


def is_right(report: dict[str, Any], store: ModelStore, rows: list[Row]) -> None:
    """Whether the tally is the one that comes out of asking both versions here."""
    first, second = (Predictor.load(store.bundle(number)).predict(rows) for number in (1, 2))
    both = [(one.label or "", other.label or "") for one, other in zip(first, second, strict=True)]
    agreed = sum(one == other for one, other in both)
    assert 0 < agreed < len(rows)
    interval = wilson(agreed, len(rows))
    assert (report["scored"], report["agreed"]) == (len(rows), agreed)
    assert report["agreement"] == {
        "share": interval.value,
        "lower": interval.lower,
        "upper": interval.upper,
    }
    counts = {(one, other): n for one, others in report["labels"].items() for other, n in others.items()}
    assert counts == {pair: both.count(pair) for pair in both}
    assert report["abstained"] == {
        "champion": sum(not one for one, _ in both),
        "challenger": sum(not o for _, o in both),
    }
    shares = [[list(one.probabilities.values()) for one in answers] for answers in (first, second)]
    apart = np.abs(np.subtract(*shares)).max(axis=1)
    assert apart.max() > 0.01
    # Rows that are asked together give the same but for the last digits.
    told = report["probability_difference"]
    assert (told["mean"], told["largest"]) == pytest.approx((apart.mean(), apart.max()), abs=1e-6)
    assert [one["champion"]["label"] or "" for one in report["differences"]] == [a for a, b in both if a != b]
