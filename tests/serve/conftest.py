"""The service over the golden bundle, within the tests' own process."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle.predictor import Predictor
from medloop.case import Row
from medloop.feedback import open_feedback
from medloop.registry.follow import LoadedModel
from medloop.serve.app import create_app
from medloop.serve.service import Service
from medloop.settings import ServeSettings, Settings
from tests.golden.make_table_bundle import ANSWERS
from tests.loop_project import made_once
from tests.postgres import Postgres, running_postgres

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2, which nothing else here needs
    from starlette.testclient import TestClient


@contextmanager
def served(predictor: Predictor | None, root: Path, **settings: Any) -> Iterator[TestClient]:
    """A client of a service of its own; without access control unless asked for."""
    given = Settings(serve=ServeSettings(**{"auth": False, **settings}))
    feedback = open_feedback(given.feedback, root=root)
    serving = LoadedModel(predictor=predictor) if predictor else None
    service = Service(given, root=root, serving=serving, feedback=feedback)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def predictor(golden: Path) -> Predictor:
    return Predictor.load(golden)


@pytest.fixture(scope="session")
def shared(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with served(predictor, tmp_path_factory.mktemp("shared")) as client:
        yield client


@pytest.fixture
def client(shared: TestClient) -> TestClient:
    """One service for many tests; none of them changes it."""
    shared.cookies.clear()
    return shared


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    """The service without a model."""
    with served(None, tmp_path) as client:
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server, started where a test asks for it."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The address of an empty database; a SQLite file's unless a test asks for `postgresql`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return "sqlite:///feedback.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_database()


@pytest.fixture(scope="session")
def known() -> list[dict[str, Any]]:
    """The recorded answers of the golden bundle."""
    answers: list[dict[str, Any]] = json.loads(ANSWERS.read_text("utf-8"))
    return answers


@pytest.fixture
def rows(known: list[dict[str, Any]]) -> list[Row]:
    """The rows of the recorded answers."""
    return [answer["record"] for answer in known]


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that finds bright discs; not to be changed."""
    from tests.bundle.image_bundles import make_discs

    return made_once(tmp_path_factory, "discs", make_discs) / "bundle"


@pytest.fixture(scope="session")
def image_predictor(image_bundle: Path) -> Predictor:
    return Predictor.load(image_bundle)


@pytest.fixture(scope="session")
def images(image_predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service for images, for many tests that do not change it."""
    with served(image_predictor, tmp_path_factory.mktemp("images")) as client:
        yield client


@pytest.fixture(scope="session")
def scans() -> list[bytes]:
    """Pictures like those that the network learned from."""
    from tests.bundle.image_bundles import draw_discs, png

    return [png(disc.pixels) for disc in draw_discs(20, seed=11)]
