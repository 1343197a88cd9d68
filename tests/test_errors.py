"""Errors state the problem and a hint, and suggest the name that was meant."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop import errors
from medloop.errors import BrokenBundle, GateRefusal, RefusedAddress, RejectedInput, UnknownName, UserError, nearest
from tests.slips import are_one_slip_apart, slips

KNOWN = ("accuracy", "brier", "C", "max_depth", "roc_auc", "seed", "test", "tests", "val")


def test_an_error_is_a_problem_and_a_hint() -> None:
    error = UserError("scan.csv is a PDF.", "Export it as CSV.")
    assert str(error) == "scan.csv is a PDF. Export it as CSV."
    assert (error.problem, error.hint) == ("scan.csv is a PDF.", "Export it as CSV.")


def test_a_hint_is_optional() -> None:
    assert str(UserError("The disk is full.")) == "The disk is full."


@pytest.mark.parametrize(
    ("kind", "exit_code", "status"),
    [
        (UserError, 2, 400),
        (RejectedInput, 2, 422),
        (RefusedAddress, 2, 403),
        (BrokenBundle, 2, 503),
        (GateRefusal, 3, 409),
    ],
)
def test_each_error_has_its_exit_code_and_status(kind: type[UserError], exit_code: int, status: int) -> None:
    error = kind("a", "b")
    assert (error.exit_code, error.http_status) == (exit_code, status)


def test_every_error_is_in_the_one_tree() -> None:
    defined = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert len(defined) >= 6
    assert all(issubclass(one, UserError) for one in defined)


def test_an_unknown_name_is_quoted_with_the_nearest_and_all_known_ones_in_order() -> None:
    error = UnknownName("a key", "tset", ["val", "test"], where="params.yaml.split")
    assert error.near == "test"
    assert error.problem == "Unknown key 'tset' in params.yaml.split."
    assert error.hint == "Did you mean 'test'? Known names: test, val."


def test_a_name_unlike_all_others_gets_no_suggestion() -> None:
    error = UnknownName("a key", "zzzzzz", KNOWN)
    assert error.near is None
    assert error.hint.startswith("Known names: ")


def test_of_very_many_names_only_similar_ones_are_listed() -> None:
    error = UnknownName("model.backbone", "resnet19", [f"resnet{number}" for number in range(1000) if number != 19])
    assert error.near is not None
    assert error.hint.count("resnet") == 6


@settings(deadline=None)
@given(st.sampled_from(KNOWN).flatmap(lambda name: st.tuples(st.just(name), slips(name))))
def test_one_slip_is_understood(pair: tuple[str, str]) -> None:
    name, typed = pair
    near = nearest(typed, KNOWN)
    if typed in KNOWN:
        assert near == typed
    elif min(len(name), len(typed)) > 1:
        assert near is not None
        assert are_one_slip_apart(typed.casefold(), near.casefold())


@pytest.mark.parametrize(
    ("typed", "meant"), [("SEED", "seed"), ("Max_Depth", "max_depth"), ("c", "C"), ("auc", "roc_auc")]
)
def test_case_and_lost_parts_are_understood(typed: str, meant: str) -> None:
    assert nearest(typed, KNOWN) == meant


def test_a_strange_name_is_quoted_short_and_without_what_a_terminal_obeys() -> None:
    error = UnknownName("a column", "\x1b[2J\nsend money" + "x" * 1_000_000, KNOWN)
    assert len(error.problem) < 130
    assert error.problem.isprintable()


def test_a_name_that_is_not_a_string_is_quoted() -> None:
    assert UnknownName("a key", 3, KNOWN).problem == "Unknown key '3'."
