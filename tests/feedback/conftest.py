"""Stores on SQLite and on a PostgreSQL server of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medloop.feedback import open_feedback
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings
from tests.postgres import Postgres, running_postgres
from tests.storage.conftest import bucket, object_store

__all__ = ["bucket", "object_store"]

Open = Callable[..., Feedback]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that a test may stop, if it starts it again."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The address of a new, empty database of each kind."""
    if request.param == "sqlite":
        return "sqlite:///feedback.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_database()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def opened(url: str, root: Path) -> Iterator[Open]:
    """Opens the store, with settings; all are closed at the end."""
    stores = []

    def open_one(**settings: Any) -> Feedback:
        store = open_feedback(FeedbackSettings(**{"url": url, **settings}), root=root, migrate=True)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def feedback(opened: Open) -> Feedback:
    return opened()
