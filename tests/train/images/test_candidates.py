"""A trial over images is one training, judged on the validation cases; heads share their features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medloop.recipe import TrainSection
from medloop.train.images.candidates import image_judge
from medloop.train.images.learn import train_images
from medloop.train.tune import Judge, Untrainable
from tests.train.images.pictures import TINY, read_pictures

FINETUNE = TrainSection(mode="finetune", epochs=2, batch_size=16, precision="fp32")


def judge_in(pictures: Path, out: Path, section: TrainSection) -> Judge:
    learning = read_pictures(pictures)
    return image_judge(learning, TINY, section, "roc_auc", cache=out / "cache", root=out)


def judged(judge: Judge, **values: Any) -> tuple[float, list[Mapping[str, float]]]:
    rows: list[Mapping[str, float]] = []
    return judge(values, rows.append), rows


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_a_trial_is_the_training_that_its_values_give(mode: Any, pictures: Path, tmp_path: Path) -> None:
    section = FINETUNE.model_copy(update={"mode": mode})
    tuned = {"learning_rate": 0.003, "head_c": 0.1, "augment.rotate": 0.0}
    found, rows = judged(judge_in(pictures, tmp_path, section), **tuned)
    places = (pictures / "prepared", pictures / "splits.parquet")
    cache, folder = tmp_path / "other", tmp_path / "trained"
    trained = train_images(*places, TINY, section, tuned=tuned, folder=folder, cache=cache, root=tmp_path)
    best = trained.history.sort_values("val_loss").iloc[0]
    assert found == pytest.approx(best["roc_auc"])
    assert [row["epoch"] for row in rows] == trained.history["epoch"].tolist()
    assert not list((tmp_path / "cache").glob("checkpoints/*"))


def test_heads_share_the_features_unless_a_value_changes_them(pictures: Path, tmp_path: Path) -> None:
    judge = judge_in(pictures, tmp_path, TrainSection(mode="head"))
    judged(judge, head_c=0.01)
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "features").iterdir()}
    judged(judge, head_c=1.0, balance="weights", dropout=0.2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "features").iterdir()} == stored
    judged(judge, views=2)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == len(stored) + 1


def test_test_and_calibration_cases_are_not_even_read(pictures: Path, tmp_path: Path) -> None:
    splits = pd.read_parquet(pictures / "splits.parquet")
    learning = read_pictures(pictures)
    judging = np.array(learning.case_ids)[learning.final_turn().held]
    assert set(splits.set_index("case_id").loc[judging, "part"]) == {"val"}
    assert not set(learning.case_ids) & set(splits.query("part in ('test', 'calib')")["case_id"])


def test_a_rate_that_is_far_too_high_is_hopeless_and_no_error(pictures: Path, tmp_path: Path) -> None:
    judge = judge_in(pictures, tmp_path, FINETUNE.model_copy(update={"clip": 0.0, "warmup": 0.0}))
    with np.errstate(all="ignore"), pytest.raises(Untrainable):
        judged(judge, learning_rate=1e30)
