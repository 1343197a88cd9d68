"""What tuning may change is known by name and type before the first trial."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from medloop.errors import UnknownName, UserError
from medloop.models import MODELS, Model
from medloop.recipe import ModelSection, TrainSection, TuneSection
from medloop.train.space import check_tuning, with_tuned
from tests.train.images.pictures import TINY

TABLE = ModelSection(name="logistic_regression")


def check(model: ModelSection, **section: Any) -> None:
    check_tuning(model, TrainSection(), TuneSection.model_validate({"trials": 3, **section}))


def test_tuned_values_reach_the_model_and_the_section() -> None:
    tuned = {"dropout": 0.3, "learning_rate": 0.01, "augment.rotate": 5}
    params, section = with_tuned(TINY, TrainSection(), tuned)
    assert params["dropout"] == 0.3
    assert (section.learning_rate, section.augment.rotate) == (0.01, 5)
    with pytest.raises(UnknownName, match="Did you mean 'learning_rate'"):
        with_tuned(TINY, TrainSection(), {"learning_rat": 0.01})


def test_what_can_be_tuned_passes() -> None:
    check(
        TINY,
        space={
            "dropout": {"low": 0, "high": 0.5},
            "backbone": {"choices": ["resnet18", "resnet10t"]},
            "views": {"low": 1, "high": 4, "whole": True},
            "balance": {"choices": ["none", "weights"]},
            "head_c": {"choices": [0.1, None]},
            "augment.rotate": {"low": 0, "high": 20},
        },
    )
    check(TABLE, space={"C": {"low": 0.1, "high": 10, "log": True}, "class_weight": {"choices": ["balanced", None]}})
    check(TABLE, trials=0)


REFUSED: dict[str, tuple[ModelSection, dict[str, Any], str]] = {
    "an unknown metric": (
        TABLE,
        {"metric": "auc", "space": {"C": {"low": 1, "high": 2}}},
        "Unknown tune.metric",
    ),
    "an unknown hyperparameter": (TABLE, {"space": {"c": {"low": 1, "high": 2}}}, "Did you mean 'C'"),
    "a value of images for a table": (TABLE, {"space": {"learning_rate": {"low": 0.1, "high": 1}}}, "learning_rate"),
    "no ranges": (TABLE, {"space": {}}, "tune.space is empty"),
    "an unknown field of a field": (
        TINY,
        {"space": {"augment.rotat": {"low": 0, "high": 9}}},
        "Did you mean 'augment",
    ),
    "a whole section": (TINY, {"space": {"augment": {"choices": ["much"]}}}, "Unknown tuned value"),
    "a range below what holds": (TINY, {"space": {"learning_rate": {"low": -1, "high": 1}}}, "greater than 0"),
    "a range above what holds": (TINY, {"space": {"augment.scale": {"low": 0, "high": 2}}}, "less than 1"),
    "parts of whole numbers": (TINY, {"space": {"views": {"low": 1, "high": 4}}}, "valid integer"),
    "a choice that does not fit": (TINY, {"space": {"balance": {"choices": ["none", "much"]}}}, "balance"),
    "a hyperparameter that does not fit": (
        TINY,
        {"space": {"stem": {"choices": ["big"]}}},
        r"stem of backbone is 'big'",
    ),
    "a range for a choice": (TINY, {"space": {"pool": {"low": 0, "high": 1}}}, r"pool: \{choices: \[mean, ...\]\}"),
}


@pytest.mark.parametrize(("model", "section", "message"), REFUSED.values(), ids=REFUSED)
def test_an_impossible_tuning_is_refused(model: ModelSection, section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(model, **section)


def every_kind(*, seed: int, shrink: bool = False, shape: Literal["round", "flat"] = "round", offset: float = 0) -> Any:
    """An entry whose hyperparameters are a boolean, a choice and a signed number."""
    return seed, shrink, shape, offset


def test_booleans_choices_and_signed_numbers_are_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "own", Model(every_kind, "table"))
    own = ModelSection(name="own")
    choices = {"shrink": {"choices": [True, False]}, "shape": {"choices": ["round", "flat"]}}
    check(own, space={**choices, "offset": {"low": -3, "high": 2}})
    with pytest.raises(UserError, match=r"shrink: \{choices: \[true, false\]\}"):
        check(own, space={"shrink": {"low": 0, "high": 1}})
    with pytest.raises(UserError, match=r"Correct it in tune\.space\.shape"):
        check(own, space={"shape": {"choices": ["round", "square"]}})
    params, _ = with_tuned(own, TrainSection(), {"shrink": True, "offset": -1.5})
    assert params == {"shrink": True, "shape": "round", "offset": -1.5}


@pytest.mark.parametrize(
    "space", [{"low": 0.5, "high": 3, "whole": True}, {"choices": [[1, 2]]}, {"low": 2, "high": 1}, {"low": 1}]
)
def test_a_range_must_be_one(space: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TuneSection.model_validate({"space": {"x": space}})
