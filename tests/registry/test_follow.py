"""The promoted Wisconsin model answers the request that its users know: 30 numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from medloop.registry.follow import load_champion
from medloop.registry.store import ModelStore
from tests.serve.conftest import TestClient, served


@pytest.fixture(scope="module")
def champion(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with served(load_champion(ModelStore(finished / "models")), tmp_path_factory.mktemp("champion")) as client:
        yield client


def test_thirty_numbers_get_an_answer_of_the_champion(champion: TestClient, finished: Path) -> None:
    cases = pd.read_parquet(finished / "work" / "cases.parquet")
    rows = cases[[name for name in cases if name.startswith("row.")]].to_numpy().tolist()
    answers = [champion.post("/predict", json={"features": row}).json() for row in rows[:50]]
    assert {answer["version"] for answer in answers} == {"1"}
    told = [(answer["label"], label) for answer, label in zip(answers, cases["label"], strict=False) if answer["label"]]
    assert len(told) > 25
    assert sum(said == label for said, label in told) >= 0.9 * len(told)


@pytest.mark.parametrize("count", [1, 29, 31, 300])
def test_another_number_of_features_is_refused_with_their_names(champion: TestClient, count: int) -> None:
    answer = champion.post("/predict", json={"features": [1.0] * count})
    assert answer.status_code == 422
    assert "the model needs 30 (mean radius, mean texture" in answer.json()["message"]
    assert f"`features` has {count} value" in answer.json()["message"]
