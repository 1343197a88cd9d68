"""The most wrong cases come first, and an image's are shown."""

from __future__ import annotations

from medloop.evaluate.figures.wrong import most_wrong
from tests.evaluate.made_up import TWO, measured


def test_the_lowest_probabilities_of_the_true_class_come_first() -> None:
    rows = most_wrong(measured([0, 1, 1, 0], [0.6, 0.05, 0.9, 0.99]), TWO, most=2)
    assert [(row["case_id"], row["label"], row["decided"]) for row in rows] == [
        ("c0003", "no", "yes"),
        ("c0001", "yes", "no"),
    ]
    assert rows[0]["probability_of_label"] == 1 - 0.99


def test_without_errors_nothing_is_shown() -> None:
    assert most_wrong(measured([0, 1], [0.1, 0.9]), TWO) == []
