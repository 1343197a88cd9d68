from __future__ import annotations

import json

import pytest

from medloop.decode.rule import DecodeRule
from medloop.errors import UnknownName, UserError


@pytest.mark.parametrize(
    "rule",
    [DecodeRule(), DecodeRule(window="lung", frame="middle"), DecodeRule(window=(40, 80), sixteen_bit="stretch")],
)
def test_a_rule_survives_json(rule: DecodeRule) -> None:
    assert DecodeRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    ("field", "value"),
    [("window", "lungs"), ("frame", "last"), ("sixteen_bit", "log"), ("background", "grey")],
)
def test_an_unknown_name_is_refused_with_the_known_ones(field: str, value: str) -> None:
    with pytest.raises(UnknownName, match=r"(?i)known"):
        DecodeRule.from_json({field: value})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(UnknownName, match="windows"):
        DecodeRule.from_json({"windows": "lung"})


@pytest.mark.parametrize("window", [(40, 0), (40,), (float("nan"), 100), (40, float("inf")), ("40", "80"), 7])
def test_an_impossible_window_is_refused(window: object) -> None:
    with pytest.raises(UserError, match="centre and width"):
        DecodeRule.from_json({"window": window})
