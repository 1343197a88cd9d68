"""Pictures are changed at random only as far as the recipe says."""

from __future__ import annotations

import json

import pytest
import torch

from medloop.models.augment import PLAIN, Views, augment, draw_moves
from medloop.recipe import AugmentSection


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def left_marked(count: int = 64, size: int = 33) -> torch.Tensor:
    """Pictures with a bright spot halfway to the left, on the middle line."""
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    images[:, :, size // 2 - 2 : size // 2 + 3, size // 4 - 2 : size // 4 + 3] = 200
    return images


def spots(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The row and column of the centre of brightness of each picture, in pixels from its middle."""
    total = images.sum((1, 2, 3))
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in images.shape[2:])
    return (images.sum((1, 3)) * rows).sum(1) / total, (images.sum((1, 2)) * columns).sum(1) / total


def test_nothing_changes_where_nothing_is_allowed() -> None:
    images = left_marked()
    assert torch.equal(augment(images, PLAIN, draws()), images.float())


def test_the_default_never_swaps_the_sides() -> None:
    rows, columns = spots(augment(left_marked(200), AugmentSection(), draws()))
    assert columns.max() < 0
    assert rows.abs().max() < 5


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_a_flip_comes_for_half_of_the_pictures(direction: str) -> None:
    section = PLAIN.model_copy(update={f"flip_{direction}": True})
    images = left_marked(200) if direction == "horizontal" else left_marked(200).transpose(2, 3)
    rows, columns = spots(augment(images, section, draws()))
    moved, still = (columns, rows) if direction == "horizontal" else (rows, columns)
    assert 70 < int((moved > 0).sum()) < 130
    assert torch.allclose(moved.abs(), torch.tensor(8.0), atol=0.1)
    assert still.abs().max() < 0.1


@pytest.mark.parametrize(("height", "width"), [(33, 33), (33, 65)])
def test_a_turn_keeps_the_distance_from_the_middle_also_in_wide_pictures(height: int, width: int) -> None:
    images = torch.zeros(50, 1, height, width, dtype=torch.uint8)
    images[:, :, height // 2 - 1 : height // 2 + 2, width // 2 - 9 : width // 2 - 6] = 200
    rows, columns = spots(augment(images, PLAIN.model_copy(update={"rotate": 90.0}), draws()))
    assert torch.allclose(torch.hypot(rows, columns), torch.tensor(8.0), atol=0.3)
    assert rows.abs().max() > 6


def test_a_shift_and_a_scale_stay_within_their_limits() -> None:
    _, columns = spots(augment(left_marked(300, 65), PLAIN.model_copy(update={"shift": 0.1}), draws()))
    assert -16 - 6.6 <= columns.min() < -16 - 5
    assert -16 + 5 < columns.max() <= -16 + 6.6
    _, columns = spots(augment(left_marked(300, 65), PLAIN.model_copy(update={"scale": 0.2}), draws()))
    assert columns.abs().min() >= 16 * 0.8 - 0.3
    assert columns.abs().max() <= 16 * 1.2 + 0.3
    assert columns.abs().max() - columns.abs().min() > 4


def test_brightness_and_contrast_differ_by_picture_and_stay_in_range() -> None:
    images = torch.full((100, 1, 8, 8), 100, dtype=torch.uint8)
    images[:, :, :4] = 250
    means = augment(images, PLAIN.model_copy(update={"brightness": 0.2, "contrast": 0.2}), draws())
    assert means.max() <= 255
    assert means.mean((1, 2, 3)).std() > 10


def test_noise_has_the_strength_set_in_the_recipe() -> None:
    images = torch.full((4, 1, 64, 64), 128, dtype=torch.uint8)
    assert float(augment(images, PLAIN.model_copy(update={"noise": 0.1}), draws()).std()) == pytest.approx(
        25.5, rel=0.05
    )


def test_the_same_seed_draws_the_same_and_another_one_differs() -> None:
    images, section = left_marked(), AugmentSection(noise=0.05)
    assert torch.equal(augment(images, section, draws(1)), augment(images, section, draws(1)))
    assert not torch.equal(augment(images, section, draws(1)), augment(images, section, draws(2)))


def test_every_picture_of_a_batch_moves_by_itself() -> None:
    moves = draw_moves(16, AugmentSection(), draws(), height=32, width=32)
    assert len({tuple(move.flatten().tolist()) for move in moves}) == 16


def test_the_same_description_draws_the_same_views() -> None:
    images, views = left_marked(20), Views(count=3, augment=AugmentSection(noise=0.1), seed=4, batch_size=8)
    again = Views.from_json(json.loads(json.dumps(views.to_json())))
    assert again == views
    drawn, drawn_again = ([pictures_of(one, view, images) for view in range(3)] for one in (views, again))
    assert all(torch.equal(first, second) for first, second in zip(drawn, drawn_again, strict=True))
    assert torch.equal(drawn[0], images.float())
    assert not torch.equal(drawn[1], drawn[2])


def pictures_of(views: Views, view: int, images: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(views.changed(view, (images[rows] for rows in views.batches(len(images))))))
