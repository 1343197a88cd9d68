"""How logits become an answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.bundle.decide import Decider, Outliers, softmax

NEAR = Outliers(mean=np.zeros(2), precision=np.eye(2), limit=3.0)


def decider(
    *, classes: tuple[str, ...] = ("no", "yes"), positive: tuple[str, ...] = ("yes",), threshold: float | None = 0.3,
    conformal: tuple[float, ...] | None = None,
) -> Decider:  # fmt: skip
    return Decider(
        classes=classes,
        positive=positive,
        threshold=threshold,
        temperature=1.0,
        conformal_alpha=0.1,
        conformal=conformal or (0.5,) * len(classes),
        outliers=NEAR,
    )


def test_softmax_is_made_of_probabilities_even_from_huge_logits() -> None:
    shares = softmax(np.array([[1e5, 0.0], [0.0, -1e5], [3.0, 3.0]]))
    assert shares == pytest.approx(np.array([[1, 0], [1, 0], [0.5, 0.5]]))


def test_a_higher_temperature_is_less_sure() -> None:
    logits = np.array([[2.0, 0.0]])
    assert softmax(logits, 1.0)[0, 0] > softmax(logits, 2.0)[0, 0] > 0.5


@pytest.mark.parametrize(("share", "choice"), [(0.29999, 0), (0.3, 1), (0.30001, 1), (0.9, 1)])
def test_the_threshold_itself_is_positive(share: float, choice: int) -> None:
    assert decider().choices(np.array([[1 - share, share]])) == [choice]


def test_several_positive_classes_share_one_threshold() -> None:
    three = decider(classes=("a", "b", "c"), positive=("b", "c"), threshold=0.5)
    shares = np.array([[0.45, 0.25, 0.3], [0.55, 0.4, 0.05], [0.1, 0.6, 0.3]])
    assert three.choices(shares).tolist() == [2, 0, 1]


def test_without_a_positive_class_the_likeliest_is_chosen() -> None:
    three = decider(classes=("a", "b", "c"), positive=(), threshold=None)
    assert three.choices(np.array([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])).tolist() == [1, 0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_a_lower_threshold_never_has_fewer_positives(shares: list[float], threshold: float) -> None:
    probabilities = np.array([[1 - share, share] for share in shares])
    lower = decider(threshold=threshold / 2).choices(probabilities)
    assert (lower >= decider(threshold=threshold).choices(probabilities)).all()


def test_the_likeliest_class_is_always_possible() -> None:
    sets = decider(conformal=(0.0, 0.0)).conformal_sets(np.array([[0.7, 0.3], [0.2, 0.8]]))
    assert sets.tolist() == [[True, False], [False, True]]


def test_two_possible_classes_are_too_close_to_call() -> None:
    judge = decider(conformal=(0.9, 0.9))
    remaining = judge.conformal_sets(np.array([[0.6, 0.4]]))[0]
    reason = judge.reason_to_abstain(0.0, remaining)
    assert reason == "too close to call: no and yes remain possible at 90% confidence"


@pytest.mark.parametrize("distance", [3.0001, float("inf"), float("nan")])
def test_far_away_or_nowhere_gives_no_class(distance: float) -> None:
    assert decider().reason_to_abstain(distance, np.array([True, False])) == "far from anything seen in training"


def test_near_and_clear_gives_a_class() -> None:
    assert decider().reason_to_abstain(3.0, np.array([True, False])) is None


def test_distances_are_those_of_mahalanobis() -> None:
    spread = Outliers(mean=np.array([1.0, 2.0]), precision=np.diag([4.0, 1.0]), limit=1.0)
    assert spread.distances(np.array([[2.0, 2.0], [1.0, 5.0], [1.0, 2.0]])) == pytest.approx([2, 3, 0])
