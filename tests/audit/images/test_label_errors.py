"""Doubtful labels rank high as far as the probabilities allow."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.audit.images.label_errors import rank_label_errors
from medloop.errors import UserError


def sharp(y: np.ndarray, *, classes: int = 3, sure: float = 0.9) -> np.ndarray:
    shares = np.full((len(y), classes), (1 - sure) / (classes - 1))
    shares[np.arange(len(y)), y] = sure
    noise = np.random.default_rng(1).uniform(0.0, 0.05, size=shares.shape)
    return (shares + noise) / (shares + noise).sum(axis=1, keepdims=True)


def test_flipped_labels_come_first_with_their_true_class() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    flipped = rng.choice(300, 15, replace=False)
    given = truth.copy()
    given[flipped] = (given[flipped] + 1) % 3
    doubts = rank_label_errors(sharp(truth), given)
    assert {doubt.place for doubt in doubts} <= set(flipped.tolist())
    assert len(doubts) >= 14
    assert all(doubt.suggested == truth[doubt.place] and doubt.given == given[doubt.place] for doubt in doubts)
    assert [doubt.quality for doubt in doubts] == sorted(doubt.quality for doubt in doubts)


def test_correct_labels_are_not_doubted() -> None:
    truth = np.arange(90) % 3
    assert rank_label_errors(sharp(truth), truth) == ()


def test_an_empty_class_and_a_single_class_are_accepted() -> None:
    truth = np.array([0, 2] * 30)
    given = truth.copy()
    given[0] = 2
    doubts = rank_label_errors(sharp(truth), given)
    assert [(doubt.place, doubt.given, doubt.suggested) for doubt in doubts] == [(0, 2, 0)]
    assert rank_label_errors(sharp(truth), np.zeros(60, int)) == ()


@pytest.mark.parametrize(("shares", "y"), [(np.ones((3, 2)) / 2, [0, 1]), (np.ones((2, 2)) / 2, [0, 2])])
def test_wrong_shapes_and_class_numbers_are_errors(shares: np.ndarray, y: list[int]) -> None:
    with pytest.raises(UserError, match=r"do not fit class numbers|class numbers range from 0 to 2"):
        rank_label_errors(shares, np.array(y))
