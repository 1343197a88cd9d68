"""Features are computed once for each key, and anything that decides them is in the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medloop.models.augment import Views
from medloop.models.backbone import Classifier, build_classifier
from medloop.recipe import AugmentSection, TrainSection
from medloop.train.images.device import batch_on, make_fabric
from medloop.train.images.examples import ImageLearning
from medloop.train.images.features import Features, compute_views
from tests.train.images.pictures import read_pictures


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(classes=3, channels=1, size=32, backbone="test_resnet")


@pytest.fixture(scope="module")
def fabric(network: Classifier) -> Any:
    return make_fabric(network, TrainSection(precision="fp32"))


@pytest.fixture(scope="module")
def learning(pictures: Path) -> ImageLearning:
    return read_pictures(pictures)


def views_of(network: Classifier, learning: ImageLearning, fabric: Any, cache: Path, **changed: Any) -> list[Features]:
    views = Views(**{"count": 1, "augment": AugmentSection(), "seed": 0, "batch_size": 16, **changed})
    return list(compute_views(network, learning, fabric, views, cache=cache))


def test_the_first_view_is_the_embedding_of_the_picture_as_it_is(
    network: Classifier, learning: ImageLearning, fabric: Any, tmp_path: Path
) -> None:
    (plain,) = views_of(network, learning, fabric, tmp_path)
    images = batch_on(torch.from_numpy(learning.pixels(np.arange(len(learning.y)))), torch.device("cpu")).float()
    with torch.inference_mode():
        expected = network.eval()(images)[1].numpy()
    assert np.allclose(plain, expected, atol=1e-4)


def test_a_second_run_reads_what_the_first_one_stored(
    network: Classifier, learning: ImageLearning, fabric: Any, tmp_path: Path
) -> None:
    first = views_of(network, learning, fabric, tmp_path, count=3)
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = views_of(network, learning, fabric, tmp_path, count=3)
    assert len(stored) == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stored
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert not np.array_equal(first[1], first[2])


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"augment": AugmentSection(rotate=20)}, {"batch_size": 8}],
    ids=["seed", "augmentation", "batch"],
)
def test_what_changes_the_views_changes_their_key(
    change: dict[str, Any], network: Classifier, learning: ImageLearning, fabric: Any, tmp_path: Path
) -> None:
    views_of(network, learning, fabric, tmp_path, count=2)
    before = set(tmp_path.iterdir())
    views_of(network, learning, fabric, tmp_path, count=2, **change)
    assert set(tmp_path.iterdir()) > before


def test_other_weights_and_another_precision_are_other_features(
    network: Classifier, learning: ImageLearning, fabric: Any, tmp_path: Path
) -> None:
    plain = views_of(network, learning, fabric, tmp_path)[0]
    torch.manual_seed(1)
    other = build_classifier(classes=3, channels=1, size=32, backbone="test_resnet")
    changed = views_of(other, learning, fabric, tmp_path)[0]
    rough = views_of(network, learning, make_fabric(network, TrainSection(precision="bf16")), tmp_path)[0]
    assert len(list(tmp_path.iterdir())) == 3
    assert not np.allclose(plain, changed, atol=1e-3)
    assert not np.array_equal(plain, rough)
    assert np.corrcoef(plain.ravel(), rough.ravel())[0, 1] > 0.99


def test_the_head_is_not_part_of_the_key(
    network: Classifier, learning: ImageLearning, fabric: Any, tmp_path: Path
) -> None:
    views_of(network, learning, fabric, tmp_path)
    with torch.no_grad():
        network.head.weight.add_(1)
    views_of(network, learning, fabric, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
