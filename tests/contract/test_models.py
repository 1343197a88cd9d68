"""What holds for every table entry of MODELS: it learns, survives the disk without pickle, and becomes ONNX."""

from __future__ import annotations

import functools
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.bundle.export.estimator_onnx import check_parity, run_graph, table_graph
from medloop.errors import UnknownName, UserError
from medloop.models import MODELS, Model, find_model, hyperparameters
from medloop.models.estimator import read_estimator, write_estimator
from medloop.models.pipeline import model_frame, table_pipeline
from medloop.prepare.table import Inputs, TablePreparer
from tests.slips import are_one_slip_apart, slips

BOUND = 1e-5
TABLE_MODELS = [name for name, model in MODELS.items() if model.learns == "table"]
every_model = pytest.mark.parametrize("name", TABLE_MODELS)
QUICK = {"n_estimators": 15, "max_iter": 5000}
NUMBERS = ("age", "area")
CATEGORIES = ("side", "stage (TNM)")


def rows_of(classes: int, *, count: int = 90, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """Rows of every kind of column, gaps among them, and the class that goes with each."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    rows = [
        {
            "age": None if rng.random() < 0.1 else round(rng.normal(50 + 5 * kind, 8), 1),
            "area": None if rng.random() < 0.1 else round(float(np.exp(rng.normal(5 + kind / 2, 0.5))), 3),
            "side": None if rng.random() < 0.1 else str(rng.choice(["left", "right"])),
            "stage (TNM)": str(rng.choice(["I", "II", "Größe III"][: 2 + kind % 2])),
        }
        for kind in y
    ]
    return rows, y


@functools.cache
def learned(
    name: str, *, classes: int = 2, columns: tuple[str, ...] = NUMBERS + CATEGORIES
) -> tuple[Any, TablePreparer, Inputs, np.ndarray[Any, Any]]:
    """The fitted pipeline, and what it was fitted on."""
    rows, y = rows_of(classes)
    rows = [{column: row[column] for column in columns} for row in rows]
    values = {column: [row[column] for row in rows] for column in columns}
    preparer = TablePreparer.fit(values, categories=(), max_categories=10)
    inputs = preparer.prepare(rows)
    params = {key: value for key, value in QUICK.items() if key in find_model(name).defaults}
    pipeline = table_pipeline(name, params, kinds={one.name: one.kind for one in preparer.columns}, seed=0)
    return pipeline.fit(model_frame(inputs), y), preparer, inputs, y


def parity(pipeline: Any, preparer: TablePreparer, inputs: Inputs, name: str) -> float:
    graph = table_graph(pipeline, {one.name: one.kind for one in preparer.columns})
    logits, _ = run_graph(graph.SerializeToString(), inputs)
    return check_parity(pipeline, model_frame(inputs), logits, bound=BOUND, name=name)


@every_model
def test_an_entry_explains_itself_and_has_defaults_that_fit(name: str) -> None:
    model = find_model(name)
    assert model.summary.endswith(".")
    assert hyperparameters(name, model.defaults) == model.defaults == hyperparameters(name, {})


@every_model
@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns_from_numbers_categories_and_gaps(name: str, classes: int) -> None:
    pipeline, _, inputs, y = learned(name, classes=classes)
    shares = pipeline.predict_proba(model_frame(inputs))
    assert shares.shape == (len(y), classes)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert (shares.argmax(axis=1) == y).mean() > 1.2 / classes


@every_model
@pytest.mark.parametrize("classes", [2, 3])
def test_it_exports_within_the_bound(name: str, classes: int) -> None:
    pipeline, preparer, inputs, _ = learned(name, classes=classes)
    assert parity(pipeline, preparer, inputs, name) <= BOUND


@every_model
@pytest.mark.parametrize("columns", [NUMBERS, ("side",)])
def test_it_exports_any_combination_of_column_kinds(name: str, columns: tuple[str, ...]) -> None:
    pipeline, preparer, inputs, _ = learned(name, columns=columns)
    assert parity(pipeline, preparer, inputs, name) <= BOUND


@every_model
def test_onnx_agrees_on_unseen_rows(name: str) -> None:
    pipeline, preparer, _, _ = learned(name)
    rows, _ = rows_of(2, count=200, seed=9)
    odd = {"age": 1e6, "area": None, "side": "elsewhere", "stage (TNM)": None}
    empty = dict.fromkeys(odd)
    assert parity(pipeline, preparer, preparer.prepare([*rows, odd, empty, {**odd, "age": -1e6}]), name) <= BOUND


@every_model
def test_the_same_seed_gives_the_same_model(name: str) -> None:
    first, _, inputs, _ = learned(name)
    second, *_ = learned.__wrapped__(name)
    frame = model_frame(inputs)
    np.testing.assert_array_equal(first.predict_proba(frame), second.predict_proba(frame))


@every_model
def test_it_survives_the_disk_without_pickle(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, _, inputs, _ = learned(name)
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    write_estimator(pipeline, tmp_path / "estimator.skops")
    again = read_estimator(tmp_path / "estimator.skops")
    frame = model_frame(inputs)
    np.testing.assert_array_equal(pipeline.predict_proba(frame), again.predict_proba(frame))
    with zipfile.ZipFile(tmp_path / "estimator.skops") as archive:
        assert {Path(entry).suffix for entry in archive.namelist()} <= {".json", ".npy", ".npz"}


class Stranger:
    """Something that no model of scikit-learn holds."""


def test_an_estimator_with_a_strange_type_is_not_loaded(tmp_path: Path) -> None:
    pipeline, *_ = learned.__wrapped__("decision_tree")
    pipeline.steps.append(("stranger", Stranger()))
    write_estimator(pipeline, tmp_path / "estimator.skops")
    with pytest.raises(UserError, match="types other than those of scikit-learn and NumPy") as caught:
        read_estimator(tmp_path / "estimator.skops")
    assert "Stranger" in caught.value.problem


@pytest.mark.parametrize("name", [name for name in TABLE_MODELS if len(find_model(name).defaults) > 1])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_one_slip_in_a_hyperparameter_is_refused_with_the_name_that_was_meant(name: str, data: st.DataObject) -> None:
    known = [*find_model(name).defaults, "name"]
    meant = data.draw(st.sampled_from([key for key in known if len(key) > 1]))
    typed = data.draw(slips(meant).filter(lambda word: word not in known and len(word) > 1))
    with pytest.raises(UnknownName) as caught:
        hyperparameters(name, {typed: 1})
    assert f"model ({name})" in caught.value.problem
    assert caught.value.near is not None
    assert are_one_slip_apart(typed.casefold(), caught.value.near.casefold())


@every_model
def test_a_value_that_does_not_fit_is_refused_by_name(name: str) -> None:
    kinds = get_type_hints(find_model(name).build, include_extras=True)
    for key in find_model(name).defaults:
        inner = {kinds[key], *get_args(kinds[key])}
        refused: list[Any] = [[1], {"a": 1}, float("nan"), float("inf")]
        refused += [] if bool in inner else [True]
        refused += [] if str in inner else ["many"]
        # A plain number may be negative; the others have their bounds.
        refused += [] if kinds[key] in (int, float) else [-1]
        for value in refused:
            with pytest.raises(UserError, match=rf"model\.{key} of {name} is "):
                hyperparameters(name, {key: value})


@every_model
def test_numbers_written_as_yaml_reads_them_are_taken(name: str) -> None:
    for key, default in find_model(name).defaults.items():
        if isinstance(default, float):
            assert hyperparameters(name, {key: "1e-1"})[key] == 0.1
        elif isinstance(default, int) and not isinstance(default, bool):
            assert hyperparameters(name, {key: 3.0})[key] == 3


def every_kind(*, seed: int, shrink: bool = False, shape: Literal["round", "flat"] = "round", offset: float = 0) -> Any:
    """An entry whose hyperparameters are a boolean, a choice and a signed number."""
    return seed, shrink, shape, offset


@pytest.fixture
def own_entry(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(MODELS, "own", Model(every_kind, "table"))
    return "own"


def test_a_hyperparameter_may_be_a_boolean_a_choice_or_a_signed_number(own_entry: str) -> None:
    wanted = {"shrink": True, "shape": "flat", "offset": -2.5}
    assert hyperparameters(own_entry, wanted) == wanted
    assert hyperparameters(own_entry, {}) == {"shrink": False, "shape": "round", "offset": 0}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("shrink", 1, "a valid boolean"),
        ("shrink", "yes", "a valid boolean"),
        ("shape", "square", "'round' or 'flat'"),
        ("shape", True, "'round' or 'flat'"),
        ("offset", True, "a valid number"),
        ("offset", "far", "a valid number"),
    ],
)
def test_the_message_names_what_is_accepted(own_entry: str, key: str, value: Any, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        hyperparameters(own_entry, {key: value})
    assert f"model.{key} of own is {value!r}, which is not accepted: {reason}" in caught.value.problem
    assert caught.value.hint == "Correct it in params.yaml."


@given(typed=st.sampled_from(TABLE_MODELS).flatmap(slips).filter(lambda word: word not in MODELS))
@settings(deadline=None, max_examples=30)
def test_one_slip_in_a_model_is_refused_with_the_name_that_was_meant(typed: str) -> None:
    with pytest.raises(UnknownName) as caught:
        find_model(typed)
    assert caught.value.near in MODELS
    assert are_one_slip_apart(typed, str(caught.value.near))


def test_export_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pipeline, preparer, inputs, _ = learned.__wrapped__("svc")
        parity(pipeline, preparer, inputs, "svc")
    assert [str(one.message) for one in warned] == []
