"""What makes a stage run again besides the recipe and the stages before it, and what it says about why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from medloop.data import SOURCES, Source
from medloop.data.places import Places
from medloop.data.sources.folder import read_folder
from medloop.recipe import DataSection
from medloop.steps.dvc import write_lock
from medloop.steps.pipeline import Done, last_message, run_all, run_stage
from medloop.steps.project import Project, load_project
from medloop.steps.stages import STAGES
from medloop.storage import read_json
from tests.image_files import image_project, write_classes, write_picture
from tests.loop_project import copied, edit_recipe, installed, medloop, new_table, run_loop, run_stages, small_rows
from tests.loop_project import write_table as write_rows


def first(folder: Path) -> Done:
    """How ingest goes as the first stage of a run."""
    return next(run_all(load_project(folder)))


def test_a_file_that_arrives_while_ingest_runs_is_ingested_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_classes(tmp_path / "scans")

    def read_while_a_file_arrives(section: DataSection, places: Places) -> pd.DataFrame:
        cases = read_folder(section, places)
        write_picture(scans / "tumour" / "late.png", 99)
        return cases

    project = image_project(tmp_path / "project", data={"source": "folder", "path": str(scans)})
    monkeypatch.setitem(SOURCES, "folder", Source(read_while_a_file_arrives, "images"))
    assert first(project.root).text.startswith("8 cases")
    monkeypatch.undo()
    again = first(project.root)
    assert (again.skipped, again.why) == (False, "changed: the files of data.path")
    assert again.text.startswith("9 cases")
    assert first(project.root).skipped


@pytest.fixture
def listing(tmp_path: Path) -> Project:
    """Images that a CSV file beside them lists, ingested."""
    scans = tmp_path / "project" / "scans"
    rows = [{"file": f"{number}.png", "what": ("normal", "tumour")[number % 2]} for number in range(8)]
    for number, row in enumerate(rows):
        write_picture(scans / row["file"], number)
    write_rows(scans / "list.csv", rows)
    data = {"source": "csv_images", "path": "scans/list.csv", "image": "file", "label": "what"}
    project = image_project(tmp_path / "project", data=data)
    run_stage(project, "ingest")
    return project


def redraw(scans: Path) -> None:
    write_picture(scans / "3.png", 33)


def lose(scans: Path) -> None:
    (scans / "3.png").unlink()


@pytest.mark.parametrize("change", [redraw, lose])
def test_an_image_that_a_table_lists_is_watched(listing: Project, change: Callable[[Path], None]) -> None:
    write_lock(listing)
    write_picture(listing.root / "scans" / "not listed.png", 50)
    assert last_message(listing, "ingest")
    assert not write_lock(listing)
    change(listing.root / "scans")
    assert last_message(listing, "ingest") is None
    assert write_lock(listing)


def test_a_table_that_cannot_be_read_is_told_by_ingest_alone(listing: Project) -> None:
    (listing.root / "scans" / "list.csv").write_bytes(b"\xff\xfe")
    said = medloop("run", cwd=listing.root)
    assert said.code == 2
    assert "list.csv is not UTF-8" in said.err


def test_another_release_of_a_library_runs_what_computes_with_it_and_says_so(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert medloop("run", cwd=table).code == 0
    monkeypatch.syspath_prepend(str(installed(tmp_path / "site", "skl2onnx", "99.0")))
    said = medloop("run", cwd=table)
    lines = {line.split()[0]: line for line in said.out.splitlines() if line[:1].isalpha()}
    assert [name for name in STAGES if "unchanged" not in lines[name]] == ["export", "evaluate"]
    assert "changed: skl2onnx (" in said.out
    assert "-> 99.0)" in said.out
    assert "-> 99.0)" in (table / "logs" / "run.log").read_text("utf-8")


def test_libraries_for_images_do_not_concern_a_table(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_loop(table)
    monkeypatch.syspath_prepend(str(installed(tmp_path / "site", "torch", "99.0")))
    done = run_loop(table)
    assert all(done[name].skipped for name in STAGES)


def test_a_value_of_the_recipe_is_told_with_what_it_was(table: Path) -> None:
    run_loop(table)
    done = run_loop(edit_recipe(table, evaluate={"draws": 101}))
    assert done["evaluate"].why == "changed: evaluate.draws (100 -> 101)"


def test_a_stamp_of_an_older_medloop_is_done_again(table: Path) -> None:
    run_loop(table)
    stamp = table / "work" / "stamps" / "split.json"
    content = read_json(stamp)
    stamp.write_text(json.dumps({"key": "0" * 64, "outputs": content["outputs"], "text": content["text"]}), "utf-8")
    done = run_loop(table)
    assert [name for name in STAGES if not done[name].skipped] == ["split"]
    assert done["split"].why == "changed: the code of medloop"


@pytest.mark.parametrize("content", ['{"text": "do', "[]", '{"text": "done"}', '{"text": "done", "outputs": []}'])
def test_a_stamp_that_cannot_be_read_is_done_again(table: Path, content: str) -> None:
    run_loop(table)
    stamp = table / "work" / "stamps" / "prepare.json"
    whole = stamp.read_text("utf-8")
    stamp.write_text(content, "utf-8")
    ended = medloop("prepare", cwd=table)
    assert ended.code == 0, ended.err
    assert stamp.read_text("utf-8") == whole
    stamp.write_text(content, "utf-8")
    assert [name for name, done in run_loop(table).items() if name in STAGES and not done.skipped] == ["prepare"]


def findings_and_page(project: Path) -> tuple[dict[str, Any], str]:
    folder = project / "work" / "audit"
    return read_json(folder / "findings.json"), (folder / "audit.html").read_text("utf-8")


def test_a_finding_of_a_table_is_accepted_without_another_audit(tmp_path: Path) -> None:
    rows = [{**row, "told": "x" if row["diagnosis"] == "malignant" else "y"} for row in small_rows(150)]
    project = new_table(tmp_path / "leak", rows)
    refused = medloop("run", cwd=project)
    assert refused.code == 2
    assert "leaking_column" in refused.err
    before, page = findings_and_page(project)
    assert "1 severe finding stops the training." in page
    edit_recipe(project, audit={"accept": ["leaking_column"]})
    done = run_loop(project)
    accepted, page = findings_and_page(project)
    assert done["audit"].why == 'changed: audit.accept ([] -> ["leaking_column"])'
    assert accepted == {**before, "accepted": ["leaking_column"], "open_severe": []}
    run_stages(project, "audit")
    assert findings_and_page(project) == (accepted, page)


def test_findings_of_images_are_accepted_when_the_images_are_away(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    shutil.copy(scans / "normal" / "p0_000.png", scans / "tumour" / "copy.png")
    project = image_project(tmp_path / "project", data={"source": "folder", "path": str(scans)})
    run_stages(project.root, "ingest", "audit")
    before, _ = findings_and_page(project.root)
    assert before["open_severe"]
    again = copied(project.root, tmp_path / "again")
    edit_recipe(again, audit={"accept": before["open_severe"]})
    run_stages(again, "ingest")
    run_stages(edit_recipe(project.root, audit={"accept": before["open_severe"]}), "ingest")
    scans.rename(tmp_path / "away")
    said = medloop("audit", cwd=project.root)
    assert said.code == 0, said.err
    accepted, page = findings_and_page(project.root)
    assert accepted == {**before, "accepted": sorted(set(before["open_severe"])), "open_severe": []}
    (tmp_path / "away").rename(scans)
    shutil.rmtree(again / "work" / "stamps")
    run_stages(again, "audit")
    assert findings_and_page(again) == (accepted, page)


def test_a_page_of_another_make_is_written_anew(table: Path) -> None:
    page = table / "work" / "audit" / "audit.html"
    page.write_text("<html></html>", encoding="utf-8")
    run_stages(table, "audit")
    run_stages(edit_recipe(table, audit={"accept": ["no_patients"]}), "audit")
    findings, text = findings_and_page(table)
    assert findings["accepted"] == ["no_patients"]
    assert "no_patients (accepted)" in text


def test_every_library_that_counts_is_one_that_medloop_asks_for(tmp_path: Path) -> None:
    project = new_table(tmp_path / "mine", small_rows(20))
    content = yaml.safe_load((project / "medloop-lock.yaml").read_text("utf-8"))
    assert list(content["stages"]) == sorted(STAGES)
    assert content["stages"]["export"]["onnxruntime"][0].isdigit()
    assert not [
        name for stage in content["stages"].values() for name, found in stage.items() if found == "not installed"
    ]
