"""Stores on SQLite and on a PostgreSQL server of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine

from medloop.feedback import open_feedback
from medloop.feedback.db.database import database_url
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
def url(request: pytest.FixtureRequest, root: Path) -> str:
    """The address of a new, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{root}/feedback.db"
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
        # Inputs that expire at once are nothing that a user may ask for.
        unchecked = {name: value for name, value in settings.items() if name == "keep_days"}
        checked = FeedbackSettings(**{"url": url, **settings, **dict.fromkeys(unchecked, 1)})
        store = open_feedback(checked.model_copy(update=unchecked), root=root, migrate=True)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def feedback(opened: Open) -> Feedback:
    return opened()


@contextmanager
def tampering(feedback: Feedback) -> Iterator[Connection]:
    """Write to the store's database as another program would, past the journal."""
    url = database_url(feedback.settings, Path("a folder that the store does not know"))
    assert url.database is not None
    assert url.drivername != "sqlite" or Path(url.database).is_file(), (
        "open the store with the whole path of its database"
    )
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def sqlite_in(root: Path) -> FeedbackSettings:
    """Settings that name the usual SQLite file by its whole path."""
    return FeedbackSettings(url=f"sqlite:///{root}/feedback.db")
