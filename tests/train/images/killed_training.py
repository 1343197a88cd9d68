"""A training that is killed, as with `kill -9`, after its second epoch; started by test_loop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from medloop.recipe import ModelSection, TrainSection
from medloop.train.images.learn import train_images


def kill_in_second_epoch(row: Mapping[str, float]) -> None:
    if row["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    pictures, section, out = sys.argv[1:]
    train_images(
        Path(pictures) / "prepared",
        Path(pictures) / "splits.parquet",
        ModelSection.model_validate({"name": "backbone", "backbone": "test_resnet"}),
        TrainSection.model_validate_json(section),
        tuned={},
        folder=Path(out) / "trained",
        cache=Path(out) / "cache",
        root=Path(out),
        on_epoch=kill_in_second_epoch,
    )
