"""A named positive class against the rest, and decisions in the form of probabilities."""

from __future__ import annotations

import numpy as np

from medloop.metrics.view import decided, one_hot, positive_view

Y = np.array([0, 1, 2])
P = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.1, 0.8]])


def test_positive_classes_are_added_up_against_the_rest() -> None:
    truth, shares = positive_view(Y, P, ["a", "b", "c"], ["a", "c"])
    assert truth.tolist() == [1, 0, 1]
    np.testing.assert_allclose(shares, [[0.3, 0.7], [0.2, 0.8], [0.1, 0.9]])


def test_without_a_positive_class_all_classes_stay() -> None:
    truth, shares = positive_view(Y, P, ["a", "b", "c"], [])
    assert truth is Y
    assert shares is P


def test_a_decision_is_the_most_probable_class_and_at_a_tie_the_last() -> None:
    assert decided(P).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert decided(np.array([[0.5, 0.5]])).tolist() == [[0, 1]]
    assert one_hot(np.array([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
