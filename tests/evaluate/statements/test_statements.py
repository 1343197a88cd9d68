"""Each sentence of a report agrees with the files of its run, for projects of five kinds."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from medloop.storage import read_json
from tests.evaluate.described import ReportedProject

KINDS = ("tuned_table", "classes_table", "listed_images", "foldered_images", "phantom_heads")


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest) -> ReportedProject:
    """All five, one after the other."""
    found: ReportedProject = request.getfixturevalue(request.param)
    return found


def test_the_partitions_have_the_counts_of_the_split(each: ReportedProject) -> None:
    for part, rows in each.splits[each.splits["part"] != "out"].groupby("part"):
        patients = rows["patient_id"].nunique()
        of_patients = f" of {patients} patients" if patients else ""
        assert f"{part}: {len(rows)} cases{of_patients}" in each.line("Partitions")
    for file, number in (("claim.md", "19"), ("tripod_ai.md", "12a")):
        assert each.item(file, number) == each.line("Partitions")


def test_partitioning_by_patient_is_reported_only_if_patients_are_known(each: ReportedProject) -> None:
    named = each.splits["patient_id"].notna()
    assert named.all() or not named.any()
    assert ("all cases of a patient are in one part" in each.whole) == named.all()
    assert ("the data do not identify patients" in each.whole) == (not named.any())
    by_part = each.splits[named & (each.splits["part"] != "out")].groupby("patient_id")["part"].nunique()
    assert (by_part == 1).all()
    if not named.any():
        assert not re.search(r"\d+ patients", each.whole)
    used, tested = each.report["facts"]["evaluate"], each.splits[each.splits["part"] == "test"]
    together = f"resampled together ({used['groups']} groups among {used['cases']} cases)"
    assert (together in each.line("Intervals")) == (used["groups"] < used["cases"])
    assert used["groups"] == tested["group"].nunique()


def folds_that_ran(each: ReportedProject) -> tuple[int, str]:
    """How many folds ran on which parts: those of the training, or those in which the export scored a head."""
    ran = pd.read_csv(each.work / "trained" / "history.csv")["fold"]
    model = read_json(each.work / "trained" / "model.json")
    if model.get("mode") != "head":
        return ran[ran >= 0].nunique(), "training part"
    has_val = bool((each.splits["part"] == "val").any())
    folds = each.splits.query("part == 'train'")["fold"].nunique() + has_val
    return folds, "training and validation parts" if has_val else "training part"


def test_duplicates_that_the_audit_did_not_search_for_are_named(each: ReportedProject) -> None:
    unchecked = read_json(each.work / "audit" / "findings.json")["unchecked"]
    assert ("cropped copies" in unchecked) == (each.report["task"] == "images")
    for name in unchecked:
        assert name in each.item("claim.md", "20")


def test_folds_are_mentioned_where_some_ran(each: ReportedProject) -> None:
    count, parts = folds_that_ran(each)
    made = f"cross-validation in {count} folds of the {parts}" if count else "no cross-validation"
    assert made in each.line("Partitions")
    assert made in each.line("Training")
    assert read_json(each.work / "report" / "run_summary.json")["k_folds"] == count
    assert (f"| n | {count} folds |" if count else "| n | held-out cases |") in each.text("card.md")
    assert bool(re.search(r"\bThe \d+ folds lie within", each.text("report.html"))) == bool(count)
    assert (f"The {count} folds lie within the {parts} " in each.text("report.html")) == bool(count)
    robust = each.item("claim.md", "30")
    assert f"AUC over {count} folds of the {parts}" in robust if count else "no folds were run" in robust
    if not count:
        assert not re.search(r"\d+ folds", each.whole)


def test_a_model_without_tuning_is_described_so(each: ReportedProject) -> None:
    if each.tuned:
        assert "no tuning" not in each.whole
        return
    assert each.line("Tuning") == "no tuning: the hyperparameters are those of the recipe and its defaults"
    assert "chosen by tuning" not in each.whole
    assert "trials" not in each.whole


def test_the_draws_and_the_seed_are_those_of_the_evaluation(each: ReportedProject) -> None:
    section = yaml.safe_load((each.folder / "params.yaml").read_text("utf-8"))["evaluate"]
    used = f"{section['draws']} draws, seed {section.get('seed', 0)}"
    for text in (each.line("Intervals"), each.item("claim.md", "29"), each.item("tripod_ai.md", "12e")):
        assert set(re.findall(r"\d+ draws, seed \d+", text)) == {used}
    assert used in each.item("claim.md", "42")
    assert used in each.item("tripod_ai.md", "18c")


def test_the_methods_are_those_of_the_figures(each: ReportedProject) -> None:
    line = each.line("Intervals")
    for name, figure in each.report["test"].items():
        assert (re.search(rf"\b{name}\b", line) is not None) == (figure["method"] != "none")
    assert ("DeLong" in line) == any("DeLong" in figure["method"] for figure in each.report["test"].values())


def test_the_report_of_a_table_has_no_settings_of_images(each: ReportedProject) -> None:
    is_table = each.report["task"] == "table"
    for name in ("batch_size", "weight_decay", "warmup", "epoch", "views", "augment", "pixels", "backbone"):
        if is_table:
            assert name not in each.whole.replace("pixel_", ""), name
    assert ("not applicable: the cases are rows of a table, not images" in each.item("claim.md", "13")) == is_table
    assert ("not applicable: no pretrained weights" in each.item("claim.md", "24")) == is_table
    assert each.item("claim.md", "31").startswith("not applicable: ") == is_table
    assert ("3 more are not applicable." in each.text("claim.md")) == is_table


def test_accuracy_is_reported_with_that_of_the_most_frequent_class_and_the_prevalence(each: ReportedProject) -> None:
    table = pd.read_parquet(each.work / "report" / "cases.parquet")
    positive = set(each.report["positive"])
    truth = table["label"].isin(positive) if positive else table["label"]
    chosen = table["chosen"].isin(positive) if positive else table["chosen"]
    always = truth.value_counts(normalize=True).max()
    assert f"(always deciding {each.report['majority']['class']}: {always:.3f})" in each.text("card.md")
    assert f"always predicting {each.report['majority']['class']} is correct in {100 * always:.1f}" in each.text(
        "report.html"
    )
    found = each.report["predictive"]
    assert (found is None) == (not positive)
    if positive:
        assert found["prevalence"] == pytest.approx(truth.mean())
        shares = ((found["ppv"], truth[chosen]), (found["npv"], ~truth[~chosen]))
        for figure, right in shares:
            assert figure["value"] == (pytest.approx(right.mean()) if len(right) else None)
        assert f"At a prevalence of {truth.mean():.1%} (test set): PPV" in each.text("card.md")
        page = each.text("report.html")
        assert page.index("of 100 positive predictions are correct (PPV)") < page.index("AUC: ")


def test_the_summary_and_the_card_begin_with_the_accuracy(each: ReportedProject) -> None:
    card = each.text("card.md")
    assert card.index("always deciding") < card.index("| accuracy |")
    page = each.text("report.html")
    assert page.index("<h2>Summary</h2>") < page.index("always predicting") < page.index("<h2>Plots</h2>")


def test_the_kind_of_miscalibration_is_a_limitation(each: ReportedProject) -> None:
    slope, shift = (each.report["test"][f"calibration_{name}"] for name in ("slope", "intercept"))
    tilted = slope["lower"] is not None and not slope["lower"] <= 1 <= slope["upper"]
    shifted = shift["lower"] is not None and not shift["lower"] <= 0 <= shift["upper"]
    unknown = None in (slope["lower"], shift["lower"]) and not shifted
    assert ("Calibration could not be assessed" in each.limits()) == unknown
    wrong = not unknown and (shifted or tilted)
    assert ("Poorly calibrated: " in each.limits()) == wrong
    assert ("no miscalibration detected" in each.text("report.html")) == (not unknown and not wrong)


def test_metrics_of_decisions_are_said_to_include_abstentions(each: ReportedProject) -> None:
    silent = each.report["abstained"]["n"]
    assert ("Metrics of decisions include them" in each.text("card.md")) == (silent > 0)


def test_a_rare_class_is_a_limitation_with_its_share(each: ReportedProject) -> None:
    counts = each.report["test_counts"]
    shares = {name: n / sum(counts.values()) for name, n in counts.items()}
    rare = [f"{name} ({share:.1%})" for name, share in shares.items() if share < 0.2]
    assert ("Rare class: " in each.limits()) == bool(rare and len(counts) == 2)
    assert all(text in each.limits() for text in rare if len(counts) == 2)


def test_no_sentence_comes_from_the_recipe(each: ReportedProject, tmp_path: Path) -> None:
    """A recipe full of other values changes no word."""
    from medloop.evaluate.checklists.items import checklist_text, fill_checklist
    from medloop.evaluate.report import CHECKLISTS
    from medloop.evaluate.write.card import card
    from medloop.evaluate.write.page import report_page

    other = {**each.report, "recipe": {}}
    assert card(other) == each.text("card.md")
    for title, (name, items) in CHECKLISTS.items():
        assert checklist_text(title, fill_checklist(items, other)) == each.text(name)
    assert "Summary" in report_page(other, {})
