"""The gate on a project: the champion on the same cases, too few of them, changed cases, and looks that wear out."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medloop.case import RuleOutcome, Verdict
from medloop.errors import GateRefusal
from medloop.gate.ledger import LEDGER, looks, note_look
from medloop.registry.store import ModelStore, read_verdict
from medloop.steps.pipeline import run_all, run_stage
from medloop.steps.project import load_project
from medloop.steps.stages.gate import judge_bundle
from tests.loop_project import copied, edit_recipe, made_once, new_table, run_loop, run_stages, small_rows, write_table

BETTER = {"metric": "test_roc_auc", "better_by": 0.0}
NOT_WORSE = {"metric": "test_recall", "not_worse_by": 0.5}
BINDING = 4


def gated(folder: Path, *rules: dict[str, Any], **section: Any) -> Path:
    return edit_recipe(folder, gate={"rules": list(rules), **section})


def verdict_of(folder: Path) -> Verdict:
    return judge_bundle(load_project(folder))


def rules_of(folder: Path) -> list[RuleOutcome]:
    """The outcomes of the recipe's own rules."""
    return list(verdict_of(folder).rules[BINDING:])


def make_served(folder: Path) -> None:
    """A small table with a category and a champion; the recipe has rules against it."""
    new_table(folder, small_rows(300))
    edit_recipe(folder, evaluate={"subgroups": ["one", "age (years)"]})
    run_loop(gated(folder, BETTER, NOT_WORSE))


@pytest.fixture(scope="session")
def served_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "served", make_served)


@pytest.fixture
def served(served_once: Path, tmp_path: Path) -> Path:
    return copied(served_once, tmp_path / "served")


def make_twin(served: Path, folder: Path) -> None:
    """The same model under another name, scored and not yet judged."""
    copied(served, folder)
    run_stages(edit_recipe(folder, name="twin"), "export", "evaluate")


@pytest.fixture(scope="session")
def twin_once(tmp_path_factory: pytest.TempPathFactory, served_once: Path) -> Path:
    return made_once(tmp_path_factory, "twin", partial(make_twin, served_once))


@pytest.fixture
def twin(twin_once: Path, tmp_path: Path) -> Path:
    return copied(twin_once, tmp_path / "served")


def test_the_first_version_has_no_champion_to_beat(served: Path) -> None:
    first = ModelStore(served / "models").version(1).verdict
    assert first.passed
    assert [rule.found for rule in first.rules[BINDING:]] == ["no champion yet"] * 2
    assert (first.champion, first.looks) == (None, 1)
    assert first.gate["rules"][0]["better_by"] == 0.0


def test_the_champion_is_not_judged_against_itself_again(served: Path) -> None:
    before = ModelStore(served / "models").version(1).verdict
    run_stages(served, "gate", "register")
    assert [version.verdict for version in ModelStore(served / "models").versions()] == [before]
    refused = rules_of(gated(served, BETTER))
    assert [rule.passed for rule in refused] == [False]
    assert refused[0].found.startswith("+0.000 [")


def test_a_copy_of_the_champion_is_not_better_and_not_worse(twin: Path) -> None:
    verdict = verdict_of(twin)
    better, not_worse = verdict.rules[BINDING:]
    assert (better.passed, not_worse.passed) == (False, True)
    assert verdict.champion is not None
    facts = {"version": 1, "compared": True, "n": 60, "only_challenger_right": 0, "only_champion_right": 0}
    assert {**facts, "mcnemar_p": 1.0}.items() <= verdict.champion.items()
    assert verdict.looks == 2


def test_a_small_difference_needs_more_cases_and_is_told_how_many(served: Path) -> None:
    gated(served, {"metric": "test_recall", "not_worse_by": 0.01})
    run_stages(edit_recipe(served, export={"threshold": "probability >= 0.6"}), "export", "evaluate")
    (rule,) = rules_of(served)
    assert not rule.passed
    assert rule.note.startswith("too few cases, even for a perfect model: at least ")
    assert "positive cases are needed (there are 30)" in rule.note


def test_a_worse_challenger_is_refused_with_the_reason(served: Path) -> None:
    edit_recipe(served, export={"threshold": "probability >= 0.999"})
    with pytest.raises(
        GateRefusal, match=r"NO  test_recall against the champion: .* \(worse by more than the margin\)"
    ):
        list(run_all(load_project(gated(served, {"metric": "test_recall", "not_worse_by": 0.05}))))
    assert getattr(ModelStore(served / "models").champion(), "version", None) == 1


def test_a_rule_for_each_subgroup_is_held_against_every_one(twin: Path) -> None:
    gated(twin, {**NOT_WORSE, "each": "one"}, {"metric": "test_recall", "at_least": 0.2, "each": "age (years)"})
    names = [rule.name for rule in rules_of(twin)]
    assert {"test_recall against the champion, one 0", "test_recall against the champion, one 1"} <= set(names)
    assert all(name.startswith("test_recall, age (years) ") for name in names[2:])


def test_a_subgroup_that_the_report_does_not_know_is_told(served: Path) -> None:
    with pytest.raises(Exception, match=r"Unknown gate\.rules\.each"):
        rules_of(gated(served, {**NOT_WORSE, "each": "two"}))


def test_a_champion_of_other_classes_is_no_opponent_unless_ignored(served: Path, tmp_path: Path) -> None:
    rows = [{**row, "diagnosis": {"benign": "no", "malignant": "yes"}[row["diagnosis"]]} for row in small_rows(300)]
    table = write_table(tmp_path / "renamed.csv", rows)
    edit_recipe(served, data={"path": str(table), "positive": ["yes"]}, split={"seed": 1})
    run_stages(served, "ingest", "audit", "split", "prepare", "tune", "train", "export", "evaluate")
    better = rules_of(served)[0]
    assert (better.passed, better.found) == (False, "not compared")
    assert (
        "version 1 distinguishes benign, malignant with malignant positive, this one distinguishes no, yes"
        in better.note
    )
    ignored = verdict_of(gated(served, BETTER, champion="ignore"))
    assert ignored.passed
    assert ignored.champion is not None
    assert not ignored.champion["compared"]


def test_a_champion_of_another_edition_is_scored_on_this_one_with_a_warning(served: Path) -> None:
    edit_recipe(served, split={"seed": 5})
    run_stages(served, "split", "prepare", "tune", "train", "export", "evaluate")
    verdict = verdict_of(served)
    assert verdict.champion is not None
    assert verdict.champion["compared"]
    assert "may have been trained on these test cases" in verdict.warnings[0]


def test_an_accepted_finding_may_be_forbidden(served: Path) -> None:
    report = served / "work" / "report" / "report.json"
    report.write_text(json.dumps({**json.loads(report.read_text("utf-8")), "accepted_findings": ["leaking_column"]}))
    outcomes = [
        (rule.passed, rule.found)
        for names in (["any"], ["leaking_column"], ["label_errors"])
        for rule in verdict_of(gated(served, forbid=names)).rules
        if rule.name == "audit findings that may not be accepted"
    ]
    assert outcomes == [(False, "leaking_column"), (False, "leaking_column"), (True, "none")]


@pytest.mark.parametrize(("metric", "most"), [("latency_ms", 1000), ("size_mib", 5)])
def test_latency_and_size_are_limits_like_others(served: Path, metric: str, most: float) -> None:
    fits, not_so = rules_of(gated(served, {"metric": metric, "at_most": most}, {"metric": metric, "at_most": 1e-6}))
    assert (fits.passed, not_so.passed) == (True, False)
    assert 0 < float(fits.found) < most


def test_a_margin_is_held_against_the_reference_version_too_and_on_a_new_edition(served: Path) -> None:
    run_loop(gated(edit_recipe(served, name="second"), NOT_WORSE))
    store = ModelStore(served / "models")
    assert [getattr(one, "version", None) for one in (store.champion(), store.reference())] == [2, 1]
    run_stages(edit_recipe(served, name="third"), "export", "evaluate")
    verdict = verdict_of(served)
    champion, reference = verdict.rules[BINDING:]
    assert (champion.name, reference.name) == (
        "test_recall against the champion",
        "test_recall against the reference version",
    )
    # The second comparison with the reference version leaves less room for luck than one with the champion.
    assert (champion.needed, reference.needed) == (
        "worse by less than 0.5 (97.5% confidence)",
        "worse by less than 0.5 (99.25% confidence)",
    )
    assert verdict.reference is not None
    assert {"version": 1, "bundle": store.version(1).bundle, "compared": True, "n": 60}.items() <= (
        verdict.reference.items()
    )
    edit_recipe(served, split={"seed": 5})
    run_stages(served, "split", "prepare", "tune", "train", "export", "evaluate")
    again = verdict_of(served)
    assert again.edition != verdict.edition
    assert again.reference is not None
    assert again.reference["compared"]
    assert again.rules[BINDING + 1].needed == "worse by less than 0.5 (98.75% confidence)"
    assert sum("may have been trained on these test cases" in warning for warning in again.warnings) == 2


def test_a_reference_version_that_cannot_be_read_passes_nobody(served: Path) -> None:
    run_loop(gated(edit_recipe(served, name="second"), NOT_WORSE))
    shutil.rmtree(served / "models" / "versions" / "1")
    run_stages(edit_recipe(served, name="third"), "export", "evaluate")
    champion, reference = verdict_of(served).rules[BINDING:]
    assert (champion.passed, reference.passed, reference.found) == (True, False, "not compared")
    assert "version 1 cannot be read" in reference.note


def change_row(folder: Path) -> None:
    path = folder / "work" / "cases.parquet"
    cases, splits = pd.read_parquet(path), pd.read_parquet(folder / "work" / "splits.parquet")
    tested = splits.loc[splits["part"] == "test", "case_id"].iloc[0]
    cases.loc[cases["case_id"] == tested, "row.age (years)"] += 1
    cases.to_parquet(path)


def change_label(folder: Path) -> None:
    path = folder / "work" / "cases.parquet"
    cases, splits = pd.read_parquet(path), pd.read_parquet(folder / "work" / "splits.parquet")
    tested = splits.loc[splits["part"] == "test", "case_id"].iloc[0]
    here = cases["case_id"] == tested
    cases.loc[here, "label"] = "benign" if cases.loc[here, "label"].item() == "malignant" else "malignant"
    cases.to_parquet(path)


def take_a_training_case(folder: Path) -> None:
    path = folder / "work" / "splits.parquet"
    splits = pd.read_parquet(path)
    splits.loc[splits.index[splits["part"] == "train"][0], "part"] = "test"
    splits.to_parquet(path)


@pytest.mark.parametrize("harm", [change_row, change_label, take_a_training_case])
def test_changed_test_cases_are_refused(twin: Path, harm: Any) -> None:
    harm(twin)
    refused = [rule.name for rule in verdict_of(gated(twin)).rules if not rule.passed]
    assert "the report is of this edition" in refused


def test_scores_of_single_cases_that_do_not_give_the_figures_are_refused(twin: Path) -> None:
    path = twin / "work" / "report" / "cases.parquet"
    cases = pd.read_parquet(path)
    cases["chosen"] = cases["label"]
    cases.to_parquet(path)
    refused = [rule for rule in verdict_of(gated(twin)).rules if not rule.passed]
    assert [(rule.name, rule.found) for rule in refused] == [("each test case is of the edition", "other figures")]


def test_other_bytes_than_were_reported_are_refused(served: Path) -> None:
    run_stages(edit_recipe(served, name="twin"), "export")
    refused = [rule.name for rule in verdict_of(gated(served)).rules if not rule.passed]
    assert "the report is of this bundle" in refused


def test_every_evaluation_is_a_look_and_many_wear_the_edition_out(served: Path) -> None:
    path = served / "work" / LEDGER
    run_stages(served, "evaluate")
    first, again = looks(path)
    assert (first.bundle, first.edition) == (again.bundle, again.edition)
    edit_recipe(served, name="twin")
    for number in range(7):
        note_look(path, edition=first.edition, bundle=str(number), who="me")
    run_stages(served, "export", "evaluate")
    verdict = verdict_of(served)
    assert verdict.looks == 9
    assert "collect new test cases" in verdict.warnings[0]


def test_until_a_look_the_edition_may_be_drawn_anew(tmp_path: Path) -> None:
    rows = [dict(row) for row in small_rows(150)]
    folder = new_table(tmp_path / "fresh", rows)
    stages = ("ingest", "audit", "split")
    run_stages(folder, *stages)
    before = json.loads((folder / "work" / "edition.json").read_text("utf-8"))
    write_table(folder.with_suffix(".csv"), [{**row, "age (years)": row["age (years)"] + 1} for row in rows])
    run_stages(folder, *stages)
    after = json.loads((folder / "work" / "edition.json").read_text("utf-8"))
    assert before["id"] != after["id"]
    run_stages(folder, "prepare", "tune", "train", "export", "evaluate")
    write_table(folder.with_suffix(".csv"), rows)
    run_stages(folder, "ingest", "audit")
    with pytest.raises(Exception, match="have changed or are missing"):
        run_stages(folder, "split")
    (folder / "work" / LEDGER).unlink()
    with pytest.raises(Exception, match="have changed or are missing"):
        run_stages(folder, "split")


def test_a_second_person_must_promote_where_the_recipe_says_so(served: Path) -> None:
    edit_recipe(served, name="twin")
    gated(served, NOT_WORSE, second_person=True)
    (served / "config.yaml").write_text("user: Ann\n", encoding="utf-8")
    done = {one.stage: one for one in run_all(load_project(served))}
    assert "version 2 waits for a second person: `medloop models promote 2`" in done["register"].text
    store = ModelStore(served / "models")
    assert getattr(store.challenger(), "number", None) == 2
    with pytest.raises(GateRefusal, match="registered by Ann and would be promoted by ann"):
        store.promote(2, by="ann ")
    assert store.promote(2, by="Ben").version == 2


def test_a_stored_verdict_is_read_back_whole(twin: Path) -> None:
    with pytest.raises(GateRefusal):
        run_stage(load_project(twin), "gate")
    stored = read_verdict(twin / "work" / "verdict.json")
    assert stored.gate == load_project(twin).recipe.gate.model_dump(mode="json")
    assert {**vars(stored), "created": ""} == {**vars(verdict_of(twin)), "created": ""}
