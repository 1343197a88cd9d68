"""What stands beside a trained model: the same cases, a network that has learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medloop.train.images.untrained import untrained_probabilities
from tests.bundle.image_bundles import draw_discs, write_prepared

NAMES = [f"case{number:02d}" for number in range(40)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    discs = draw_discs(40, seed=3)
    write_prepared(folder / "prepared", np.stack([disc.pixels for disc in discs])[..., None], discs, NAMES)
    part = np.where(np.arange(40) < 30, "train", "test")
    pd.DataFrame({"case_id": NAMES, "part": part}).to_parquet(folder / "splits.parquet")
    return folder


def test_every_case_gets_probabilities_and_always_the_same(work: Path) -> None:
    first, second = (untrained_probabilities(work / "prepared", work / "splits.parquet", NAMES[30:]) for _ in range(2))
    assert first.shape == (10, 2)
    assert first.sum(axis=1) == pytest.approx(1)
    assert np.array_equal(first, second)


def test_a_case_without_a_picture_gets_the_shares_of_the_training_cases(work: Path) -> None:
    found = untrained_probabilities(work / "prepared", work / "splits.parquet", ["lost", NAMES[30]])
    train = np.array([disc.y for disc in draw_discs(40, seed=3)[:30]])
    assert found[0] == pytest.approx([1 - train.mean(), train.mean()])
    assert found[1] != pytest.approx(found[0])


def test_test_cases_teach_it_nothing(work: Path, tmp_path: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    splits[splits["part"] == "train"].to_parquet(tmp_path / "splits.parquet")
    with_test = untrained_probabilities(work / "prepared", work / "splits.parquet", NAMES[30:])
    without = untrained_probabilities(work / "prepared", tmp_path / "splits.parquet", NAMES[30:])
    assert np.array_equal(with_test, without)
