"""What one kind of project says and no other does, held against the files of its run."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from medloop.bundle.files import read_meta
from medloop.storage import read_json
from tests.evaluate.described import ReportedProject

# --- a table whose values were tuned, with weights for a rare class, evaluated by another recipe than at the export ---


def test_the_tuned_value_is_the_one_that_was_used(tuned_table: ReportedProject) -> None:
    value = tuned_table.tuned["C"]
    trials = pd.read_csv(tuned_table.work / "tune" / "trials.csv")
    assert value in trials["C"].tolist()
    assert read_meta(tuned_table.work / "bundle")["model"]["params"]["C"] == value
    assert f"chosen by tuning: C {value:.3g};" in tuned_table.line("Training")
    assert "7.5" not in tuned_table.line("Training")
    for text in (
        tuned_table.line("Tuning"),
        tuned_table.item("claim.md", "26"),
        tuned_table.item("tripod_ai.md", "12c"),
    ):
        assert f"{len(trials)} trials ({len(trials)} complete, 0 pruned)" in text
        assert "compared by roc_auc on 3 folds of the training part" in text
        assert f"chosen by tuning: C {value:.3g}" in text
    assert "the tuned values had been chosen on the same cases" in tuned_table.line("Calibration")


def test_class_weights_are_reported_with_their_effect_on_probabilities(tuned_table: ReportedProject) -> None:
    assert read_meta(tuned_table.work / "bundle")["model"]["params"]["class_weight"] == "balanced"
    assert "class weights: all classes have the same total weight" in tuned_table.line("Training")
    assert tuned_table.item("tripod_ai.md", "13").startswith(
        "class weights: all classes have the same total weight, which temp"
    )
    assert "no class weights" not in tuned_table.whole
    assert "Poorly calibrated: risk overestimated" in tuned_table.limits()
    assert "classes were weighted in training" in tuned_table.limits()


def test_the_settings_are_those_of_the_evaluation_not_of_the_bundle(tuned_table: ReportedProject) -> None:
    assert read_meta(tuned_table.work / "bundle")["recipe"]["evaluate"]["draws"] == 100
    assert "100 draws" not in tuned_table.whole
    assert "150 draws, seed 5, prevalence 0.02" in tuned_table.item("claim.md", "42")
    assert "at a prevalence of 2.0% (evaluate.prevalence): PPV" in tuned_table.text("card.md")
    assert "at a prevalence of 2.0%, as set in evaluate.prevalence" in tuned_table.text("report.html")


def test_randomly_drawn_parts_are_described_so(tuned_table: ReportedProject) -> None:
    parts = tuned_table.splits["part"].value_counts()
    share = parts["test"] / parts.sum()
    told = tuned_table.line("Partitions")
    drawn = f"the test part ({parts['test']} of {parts.sum()} cases, {share:.1%}) drawn at random, stratified by class"
    assert f"{drawn}, seed 0" in told
    assert "the source's" not in tuned_table.whole
    assert tuned_table.item("claim.md", "21").startswith("20% of the cases (split.test); ")


def test_an_accuracy_no_better_than_a_constant_decision_is_a_limitation(tuned_table: ReportedProject) -> None:
    accuracy, plain = tuned_table.report["test"]["accuracy"], tuned_table.report["majority"]["accuracy"]["value"]
    assert accuracy["lower"] <= plain
    assert f"is not shown to be above that of always deciding benign ({plain:.3f})" in tuned_table.limits()


def test_the_terminal_shows_the_same_figures(tuned_table: ReportedProject) -> None:
    said = read_json(tuned_table.work / "stamps" / "evaluate.json")["text"]
    test, found = tuned_table.report["test"], tuned_table.report["predictive"]
    plain = tuned_table.report["majority"]["accuracy"]["value"]
    assert f"locked cases: accuracy {test['accuracy']['value']:.3f} (always benign: {plain:.3f}), PPV " in said
    assert f"PPV {found['ppv']['value']:.3f} and NPV {found['npv']['value']:.3f} at a prevalence of 12.5%" in said


# --- three classes of which none is positive ---


def test_without_positive_classes_there_are_no_predictive_values(classes_table: ReportedProject) -> None:
    assert "- No threshold: the likeliest class" in classes_table.text("card.md")
    assert "PPV" not in classes_table.whole
    assert "no class weights, no resampling" in classes_table.line("Training")
    assert "refer to the class frequencies among the training cases" in classes_table.item("tripod_ai.md", "13")
    assert classes_table.item("claim.md", "27") == "no ensemble; one result per row"


# --- images in parts that their list names, all weights learned with a tuned learning rate ---


def test_official_parts_are_described_as_the_source_s(listed_images: ReportedProject) -> None:
    told = listed_images.line("Partitions")
    assert "the validation part is the source's validation part" in told
    assert "the test part is the source's test part" in told
    assert (listed_images.splits["part"] == listed_images.splits["given"]).all()
    for word in ("drawn", "stratified", "25%"):
        assert word not in listed_images.whole, word
    assert listed_images.item("claim.md", "21").startswith("all cases of the source's test part; ")


def test_the_learning_rate_is_the_tuned_one(listed_images: ReportedProject) -> None:
    value = listed_images.tuned["learning_rate"]
    assert f"learning_rate {value:.3g}," in listed_images.line("Training")
    assert f"chosen by tuning: learning_rate {value:.3g}" in listed_images.line("Training")
    assert "learning_rate 0.5" not in listed_images.whole
    assert "class weights: all classes have the same total weight" in listed_images.line("Training")
    assert "head_c" not in listed_images.whole
    assert "views" not in listed_images.line("Training")


def test_the_trials_were_compared_and_the_epoch_chosen_on_the_validation_cases(listed_images: ReportedProject) -> None:
    history = pd.read_csv(listed_images.work / "trained" / "history.csv")
    chosen, val = int(history.loc[history["val_loss"].idxmin(), "epoch"]), listed_images.splits.query("part == 'val'")
    where = f"the validation part ({len(val)} cases of {val['patient_id'].nunique()} patients or groups)"
    selection = listed_images.item("claim.md", "26")
    assert f"compared by roc_auc on {where}" in selection
    assert f"epoch {chosen} of {len(history)}, with the lowest loss on {where}, the same cases on which" in selection
    assert "the epoch and the tuned values had been chosen on the same cases" in selection
    assert f"on {where}" in listed_images.line("Tuning")
    assert "training folds" not in listed_images.whole
    assert re.search(r"held out from training \(.*\), on which the epoch was chosen", listed_images.text("card.md"))
    seen = listed_images.splits.query("part == 'train'")
    trained = f"trained on {len(seen)} cases of {seen['patient_id'].nunique()} patients or groups for"
    assert trained in listed_images.line("Training")


# --- images in two folders, a head on changed views with folds, no calibration ---


def test_a_validation_part_used_as_test_part_is_described_so(foldered_images: ReportedProject) -> None:
    assert "the test part is the source's validation part" in foldered_images.line("Partitions")
    assert "val:" not in foldered_images.line("Partitions")
    assert foldered_images.report["n_test"] == 16


def test_a_head_of_given_regularisation_was_not_chosen(foldered_images: ReportedProject) -> None:
    told = foldered_images.item("claim.md", "26")
    assert "regularisation of the head C 0.01, set in the recipe" in told
    assert "lowest loss" not in foldered_images.whole
    seen = (foldered_images.splits["fold"] > 0).sum()
    training = foldered_images.line("Training")
    assert f"fitted on {seen} cases, refitted for the bundle on 36 cases" in training
    assert "views 2, augmentation: rotate 10" in training
    assert "learning_rate" not in foldered_images.whole
    assert "class weights: all classes have the same total weight" in training


def test_a_bundle_without_calibration_is_described_so(foldered_images: ReportedProject) -> None:
    assert read_meta(foldered_images.work / "bundle")["calibration"]["temperature"] == 1
    assert "without calibration" in foldered_images.line("Calibration")
    assert "temperature 1.000" not in foldered_images.whole


# --- phantoms, a head whose strength the validation part chose, answers by patient ---


def test_the_regularisation_of_the_head_was_chosen_on_the_validation_part(phantom_heads: ReportedProject) -> None:
    strength = read_json(phantom_heads.work / "trained" / "model.json")["head_C"]
    val = phantom_heads.splits.query("part == 'val'")
    where = f"the validation part ({len(val)} cases of {val['patient_id'].nunique()} patients or groups)"
    assert f"regularisation of the head C {strength:.3g}, with the lowest loss on {where}" in phantom_heads.line(
        "Model selection"
    )
    parts = phantom_heads.splits["part"].value_counts()
    refitted = parts["train"] + parts["val"]
    assert f"refitted for the bundle on {refitted} cases" in phantom_heads.line("Training")
    assert f"Trained on {refitted} cases with 1024 values each" in phantom_heads.text("card.md")
    for name in ("learning_rate", "batch_size", "augmentation"):
        assert name not in phantom_heads.line("Training")


def test_drawn_validation_and_test_parts_have_their_own_counts(phantom_heads: ReportedProject) -> None:
    parts, told = phantom_heads.splits["part"].value_counts(), phantom_heads.line("Partitions")
    for part, name in (("val", "validation"), ("test", "test")):
        assert f"the {name} part ({parts[part]} of {parts.sum()} cases, {parts[part] / parts.sum():.1%})" in told
    assert "drawn at random, stratified by class, seed 0" in told


def test_results_by_patient_are_reported(phantom_heads: ReportedProject) -> None:
    assert phantom_heads.item("claim.md", "27") == "no ensemble; one result per patient: the mean of its images"
    tested = phantom_heads.splits.query("part == 'test'")["patient_id"].nunique()
    assert phantom_heads.item("claim.md", "21").partition("; ")[2].startswith(f"{tested} patients tested (")
    assert f"tested on {tested} locked patients (edition" in phantom_heads.text("report.html")
    assert f"of {tested} test patients (" in phantom_heads.text("card.md")
    assert "test cases (" not in phantom_heads.text("card.md")


# --- older bundles ---


def test_the_report_of_an_older_bundle_names_what_is_not_recorded(listed_images: ReportedProject) -> None:
    from medloop.evaluate.checklists.claim import ITEMS as CLAIM
    from medloop.evaluate.checklists.items import fill_checklist
    from medloop.evaluate.checklists.tripod import ITEMS as TRIPOD
    from medloop.evaluate.write.card import card

    facts = {"evaluate": listed_images.report["facts"]["evaluate"]}
    old = {**listed_images.report, "facts": facts}
    text = card(old)
    assert "how the cases were partitioned is not recorded in this bundle" in text
    assert "whether hyperparameters were tuned is not recorded in this bundle" in text
    assert (
        "on which cases the epoch or the regularisation of the head was chosen is not recorded in this bundle" in text
    )
    for word in ("drawn", "stratified", "official", "learning_rate", "draws of"):
        assert word not in text
    for items in (CLAIM, TRIPOD):
        answers = {one.item.number: one.text for one in fill_checklist(items, old)}
        assert all(answers[number] for number in ("1", "2", "22"))


def test_the_golden_bundle_of_an_older_release_gets_a_report(golden: Path, tmp_path: Path) -> None:
    from medloop.case import Case
    from medloop.evaluate.report import evaluate_bundle
    from medloop.recipe import EvaluateSection
    from tests.golden.make_table_bundle import records

    rows = records()[:10]
    labels = ("benign", "malignant")
    cases = [Case(case_id=f"c{n}", label=labels[n % 2], source="new", values=row) for n, row in enumerate(rows)]
    names = [case.case_id for case in cases]
    evaluate_bundle(golden, cases, names, EvaluateSection(draws=100), accepted=[], folder=tmp_path / "report")
    card = (tmp_path / "report" / "card.md").read_text("utf-8")
    assert "further settings: not recorded in this bundle" in card
    assert "3 folds" in card
