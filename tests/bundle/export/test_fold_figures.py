"""A fold is judged as the service would judge it, had the other folds been all there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medloop.bundle.export.fold_figures import FoldScores, served_figures
from medloop.metrics.view import softmax
from medloop.recipe import ExportSection

TASK = {"classes": ["clear", "disc"], "positive": ["disc"]}
THREE = {"classes": ["a", "b", "c"], "positive": []}


def drawn(cases: int = 300, *, folds: int = 5, slices: int = 1, classes: int = 2, seed: int = 0) -> FoldScores:
    rng = np.random.default_rng(seed)
    patient = np.arange(cases) // slices
    y = patient % classes
    logits = rng.normal(size=(cases, classes)) + 1.5 * np.eye(classes)[y]
    return FoldScores(logits=logits, y=y, fold=patient // classes % folds, groups=[f"p{number}" for number in patient])


def test_a_strict_probability_has_the_recall_of_the_served_rule() -> None:
    scores = drawn()
    found = served_figures(scores, ExportSection(threshold="probability >= 0.9", calibrate=False), TASK)
    share = softmax(scores.logits)[:, 1]
    expected = [np.mean(share[(scores.fold == fold) & (scores.y == 1)] >= 0.9) for fold in range(5)]
    assert found["recall"] == pytest.approx(expected)
    plain = served_figures(scores, ExportSection(), TASK)
    assert np.mean(found["recall"]) < np.mean(plain["recall"]) - 0.2
    assert found["roc_auc"] == plain["roc_auc"]


def test_a_fold_has_no_say_in_its_own_threshold_and_temperature() -> None:
    scores, section = drawn(), ExportSection(threshold="sensitivity >= 0.9")
    before = served_figures(scores, section, TASK)
    inside = scores.fold == 2
    turned = replace(scores, y=np.where(inside, 1 - scores.y, scores.y))
    after = served_figures(turned, section, TASK)
    assert after["recall"][2] == pytest.approx(1 - before["specificity"][2])
    assert after["specificity"][2] == pytest.approx(1 - before["recall"][2])
    assert after["recall"][0] != before["recall"][0]


def test_a_rule_for_a_sensitivity_reaches_about_that_in_folds_that_did_not_choose_it() -> None:
    found = served_figures(drawn(3000), ExportSection(threshold="sensitivity >= 0.97"), TASK)
    assert np.mean(found["recall"]) == pytest.approx(0.97, abs=0.015)


def test_patients_are_decided_and_counted_where_the_bundle_decides_by_patient() -> None:
    scores = drawn(240, slices=4)
    section = ExportSection(threshold="probability >= 0.5", per="patient", combine="noisy-or", calibrate=False)
    found = served_figures(scores, section, TASK)
    share = 1 - np.prod(1 - softmax(scores.logits)[:, 1].reshape(-1, 4), axis=1)
    y, fold = scores.y[::4], scores.fold[::4]
    assert found["recall"] == pytest.approx([np.mean(share[(fold == one) & (y == 1)] >= 0.5) for one in range(5)])
    assert found["specificity"] == pytest.approx([np.mean(share[(fold == one) & (y == 0)] < 0.5) for one in range(5)])


def test_classes_without_a_positive_one_are_decided_by_the_likeliest() -> None:
    scores = drawn(classes=3)
    found = served_figures(scores, ExportSection(threshold="sensitivity >= 0.95"), THREE)
    right = scores.logits.argmax(axis=1) == scores.y
    assert found["accuracy"] == pytest.approx([right[scores.fold == fold].mean() for fold in range(5)])


def test_without_folds_no_case_chooses_its_own_threshold() -> None:
    scores = replace(drawn(40, seed=3), fold=np.full(40, -1))
    found = served_figures(scores, ExportSection(threshold="sensitivity >= 1"), TASK)
    assert found["fold"] == [-1]
    # On the cases that chose it the recall would be 1, whatever the model is.
    assert found["recall"][0] is not None
    assert found["recall"][0] < 1
