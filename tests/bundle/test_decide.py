"""How logits become an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.bundle.decide import Decider, Outliers
from medloop.metrics.view import softmax

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


def test_where_no_class_is_within_its_quantile_the_likeliest_and_the_decided_one_stay() -> None:
    judge = decider(conformal=(0.0, 0.0))
    shares = np.array([[0.71, 0.29], [0.7, 0.3], [0.2, 0.8]])
    assert judge.choices(shares).tolist() == [0, 1, 1]
    assert judge.conformal_sets(shares).tolist() == [[True, False], [True, True], [False, True]]
    # As bundles were measured that do not say so.
    before = replace(judge, likeliest_stays=False)
    assert before.conformal_sets(shares).tolist() == [[True, False], [False, True], [False, True]]


def test_a_threshold_that_contradicts_the_quantiles_is_an_abstention() -> None:
    judge = decider(conformal=(0.5, 0.5))
    shares = np.array([[0.6, 0.4]])
    assert judge.choices(shares).tolist() == [1]
    remaining = judge.conformal_sets(shares)[0]
    assert remaining.tolist() == [True, True]
    assert judge.reason_to_abstain(0.0, remaining) == "too close to call: no and yes remain possible at 90% confidence"


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.floats(0, 1),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_label_never_contradicts_its_set_and_a_set_never_loses_a_class(
    shares: list[float], threshold: float, quantiles: tuple[float, float]
) -> None:
    probabilities = np.array([[1 - share, share] for share in shares])
    judge = decider(threshold=threshold, conformal=quantiles)
    sets, choices = judge.conformal_sets(probabilities), judge.choices(probabilities)
    assert sets[np.arange(len(choices)), choices].all()
    assert sets[1 - probabilities <= np.array(quantiles)].all()


def test_a_patient_has_one_decision_at_the_median_distance_of_the_slices() -> None:
    judge = replace(decider(), per="patient")
    shares = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
    embedding = np.array([[0.0, 0], [9, 9], [0, 1], [8, 8]])
    answers = judge.answers(shares, embedding, [None, None, None, None], ["a", "b", "a", "a"])
    assert answers.members == [[0, 2, 3], [1]]
    assert answers.probabilities.tolist() == [pytest.approx([0.9, 0.1]), pytest.approx([0.1, 0.9])]
    assert answers.choices.tolist() == [0, 1]
    assert answers.reasons == [None, "far from anything seen in training"]


def test_a_complaint_of_one_slice_speaks_for_its_patient() -> None:
    judge = replace(decider(), per="patient")
    shares, embedding = np.array([[0.9, 0.1], [0.8, 0.2]]), np.zeros((2, 2))
    assert judge.answers(shares, embedding, [None, "blank"], ["a", "a"]).reasons == ["blank"]
    assert judge.answers(shares, embedding, [None, "blank"], [0, 1]).reasons == [None, "blank"]


def test_two_possible_classes_are_too_close_to_call() -> None:
    judge = decider(conformal=(0.9, 0.9))
    remaining = judge.conformal_sets(np.array([[0.6, 0.4]]))[0]
    reason = judge.reason_to_abstain(0.0, remaining)
    assert reason == "too close to call: no and yes remain possible at 90% confidence"


@pytest.mark.parametrize("distance", [3.0001, float("inf"), float("nan")])
def test_a_distance_that_is_large_or_nan_is_an_abstention(distance: float) -> None:
    assert decider().reason_to_abstain(distance, np.array([True, False])) == "far from anything seen in training"


def test_a_near_and_clear_case_has_a_class() -> None:
    assert decider().reason_to_abstain(3.0, np.array([True, False])) is None


def test_distances_are_those_of_mahalanobis() -> None:
    spread = Outliers(mean=np.array([1.0, 2.0]), precision=np.diag([4.0, 1.0]), limit=1.0)
    assert spread.distances(np.array([[2.0, 2.0], [1.0, 5.0], [1.0, 2.0]])) == pytest.approx([2, 3, 0])
