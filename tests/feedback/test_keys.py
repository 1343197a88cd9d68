"""Keys: hashed, with a role and an end, known for a moment without asking, and compared without telling."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select, update

from medloop.errors import UnknownName, UserError
from medloop.feedback import ROLES, Key
from medloop.feedback.db import tables
from medloop.feedback.records import NotFound
from medloop.feedback.store import Feedback
from tests.feedback.conftest import Open, tampering

WRONG = ["", "ml", "ml_", "ml__", "ml_x_y", "_", "x" * 10_000, "ml_é_é", "Bearer ml", "\x00"]


def test_a_key_is_found_by_its_secret_alone(feedback: Feedback) -> None:
    key, secret = feedback.keys.create("Ann", "reviewer", days=1, by="Bob")
    assert feedback.keys.find(secret) == key
    assert secret.startswith(f"ml_{key.id}_")
    assert feedback.keys.list() == [key]
    for wrong in [*WRONG, secret[:-1], secret + "x", secret.replace("ml_", "xx_"), secret.upper(), f"ml_{key.id}_"]:
        assert feedback.keys.find(wrong) is None


def test_the_secret_is_stored_nowhere(feedback: Feedback) -> None:
    _, secret = feedback.keys.create("Ann", "reader")
    with tampering(feedback) as connection:
        stored = str(connection.execute(select(tables.keys)).all())
        stored += str(connection.execute(select(tables.journal)).all())
    assert secret not in stored
    assert secret.split("_", 2)[2] not in stored


def test_an_expired_key_opens_nothing(feedback: Feedback, opened: Open) -> None:
    key, secret = feedback.keys.create("Ann", "reader", days=1)
    assert key.expires is not None
    assert feedback.keys.find(secret) == key
    with tampering(feedback) as connection:
        connection.execute(update(tables.keys).values(expires="2001-01-01T00:00:00.000000+00:00"))
    assert opened().keys.find(secret) is None


def test_a_revoked_key_opens_nothing_here_at_once_and_elsewhere_soon(opened: Open) -> None:
    here, there = opened(), opened()
    key, secret = here.keys.create("Ann", "reader")
    _, other = here.keys.create("Bob", "reader")
    assert there.keys.find(secret) == key
    assert here.keys.revoke(key.id, by="Bob").revoked is not None
    assert here.keys.find(secret) is None
    until = time.monotonic() + 10
    while there.keys.find(secret) is not None and time.monotonic() < until:
        time.sleep(0.02)
    assert there.keys.find(secret) is None
    assert there.keys.find(other) is not None
    assert here.keys.revoke(key.id) == here.keys.list()[0]
    with pytest.raises(NotFound):
        here.keys.revoke("nobody")
    assert [entry.kind for entry in here.journal.entries()] == ["key"] * 3
    assert here.journal.verify() == []


def test_keys_are_found_while_the_database_is_away(feedback: Feedback) -> None:
    _, secret = feedback.keys.create("Ann", "reader")
    feedback.close()
    assert feedback.keys.find(secret) is not None
    assert feedback.keys.find("ml_nobody_x") is None


def test_the_first_admin_is_made_once(feedback: Feedback, opened: Open) -> None:
    secret = feedback.keys.first_admin()
    assert secret is not None
    key = feedback.keys.find(secret)
    assert key is not None
    assert key.role == "admin"
    assert feedback.keys.first_admin() is None
    assert opened().keys.first_admin() is None


def test_roles_include_those_below() -> None:
    for number, role in enumerate(ROLES):
        key = Key(id="a", name="Ann", role=role, created="")
        assert [key.may(other) for other in ROLES] == [other <= number for other in range(len(ROLES))]


def test_what_makes_no_key_is_refused(feedback: Feedback) -> None:
    with pytest.raises(UnknownName, match="reviewer"):
        feedback.keys.create("Ann", "reviwer")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cannot expire after"):
        feedback.keys.create("Ann", "reader", days=0)
    for name in ("", " ", "x" * 101, "a\nb", "a\x1b[2J"):
        with pytest.raises(UserError, match="The name of the key"):
            feedback.keys.create(name, "reader")
    assert feedback.keys.list() == []
