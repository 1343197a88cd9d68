"""Projects, bundles, journals and signed stores of an earlier commit are opened, served, replayed and run again."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from medloop.registry.store import ModelStore
from medloop.steps.project import load_project
from tests.loop_project import medloop
from tests.serve.processes import serving

BOTH = ("table", "scans")


def expected(project: Path) -> dict[str, Any]:
    """What the earlier commit answered, and the key of its service."""
    content: dict[str, Any] = json.loads((project / "expected.json").read_text("utf-8"))
    return content


def said(*words: str, cwd: Path, code: int = 0) -> str:
    """What a command prints that must end with this code."""
    ended = medloop(*words, cwd=cwd)
    assert ended.code == code, ended.out + ended.err
    return ended.out


@pytest.mark.parametrize("name", BOTH)
def test_settings_and_recipe_are_read(old: Path, name: str) -> None:
    project = load_project(old / name)
    assert project.recipe.name == name
    assert project.settings.models == "models"


def test_a_signed_store_is_listed_verified_and_migrated(old: Path) -> None:
    table = old / "table"
    assert "signing.key" not in said("models", "migrate", cwd=table)
    said("models", "verify", cwd=table)
    listed = json.loads(said("models", "list", "--json", cwd=table))
    assert [one["version"] for one in listed] == ["1", "2", "3"]
    reference = ModelStore(table / "models").reference()
    assert reference is not None
    assert reference.version == 1


def test_a_store_whose_bundles_alone_were_signed_serves_once_it_was_migrated(old: Path) -> None:
    table = old / "table"
    ended = medloop("models", "promote", "1", cwd=table)
    assert ended.code == 2
    assert "Set signing.key and run `medloop models migrate`" in ended.err
    ended = medloop("models", "verify", cwd=table)
    assert ended.code == 2
    assert "version 2: Of version 2 only the bundle is signed, as by an older medloop" in ended.err
    migrated = json.loads(said("models", "migrate", "--json", cwd=table))
    assert (migrated["signed"], migrated["not_signed"]) == ([1, 2, 3], [])
    assert all((table / "models" / "versions" / number / "version.sig").is_file() for number in "123")
    said("models", "verify", cwd=table)
    said("models", "promote", "1", cwd=table)
    champion = json.loads((table / "models" / "champion.json").read_text("utf-8"))
    assert (champion["version"], champion["previous"]) == (1, 2)
    assert champion["counter"] > 0


def test_without_the_private_key_migrate_says_what_to_do(old: Path) -> None:
    table = old / "table"
    settings = yaml.safe_load((table / "config.yaml").read_text("utf-8"))
    del settings["signing"]["key"]
    (table / "config.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    out = said("models", "migrate", cwd=table)
    assert "not signed as a whole: version 2: signing.key and signing.verify_key are not both set" in out
    assert not (table / "models" / "versions" / "2" / "version.sig").exists()


def test_a_version_that_the_gate_refused_does_not_shadow(old: Path) -> None:
    store = ModelStore(old / "table" / "models")
    assert not store.version(3).verdict.passed
    assert store.challenger() is None


@pytest.mark.parametrize("name", BOTH)
def test_the_journal_verifies_and_every_prediction_is_reproduced(old: Path, name: str) -> None:
    project = old / name
    said("db", "upgrade", cwd=project)
    said("journal", "verify", cwd=project)
    for prediction in expected(project)["predictions"]:
        out = said("journal", "replay", prediction["id"], cwd=project)
        assert float(out.rpartition(" ")[2]) <= 1e-6, out


def test_the_upgrade_covers_the_keys_and_rows_that_the_old_journal_did_not(old: Path) -> None:
    project = old / "table"
    said("db", "upgrade", cwd=project)
    for change in ("UPDATE keys SET name = 'Eve'", "UPDATE predictions SET row = NULL", "DELETE FROM keys"):
        saved = (project / "feedback.db").read_bytes()
        with closing(sqlite3.connect(project / "feedback.db")) as connection:
            connection.execute(change)
            connection.commit()
        said("journal", "verify", cwd=project, code=2)
        (project / "feedback.db").write_bytes(saved)
    said("journal", "verify", cwd=project)


def test_a_service_opens_the_old_database_with_the_same_predictions(old: Path) -> None:
    project = old / "table"
    known = expected(project)
    said("db", "upgrade", cwd=project)
    said("models", "migrate", cwd=project)
    with serving(cwd=project, is_first=False) as service, service.client(known["key"]) as client:
        for prediction in known["predictions"]:
            stored = client.get(f"/v1/predictions/{prediction['id']}").json()
            assert stored["probabilities"] == prediction["probabilities"]
            assert stored["label"] == prediction["label"]
        corrections = client.get("/v1/corrections").json()["corrections"]
        assert [one["state"] for one in corrections] == ["accepted"]
        assert client.get("/v1/model").json()["version"] == "2"


def test_an_old_bundle_that_decides_by_patient_asks_for_the_patient(old: Path) -> None:
    project = old / "scans"
    known = expected(project)
    said("db", "upgrade", cwd=project)
    slices = [path.read_bytes() for path in sorted((project / "work" / "phantoms").glob("**/*.png"))[:2]]
    files = [("files", (f"{number}.png", data)) for number, data in enumerate(slices)]
    with serving(cwd=project, is_first=False) as service, service.client(known["key"]) as client:
        refused = client.post("/v1/predictions", files=files)
        assert refused.status_code == 422
        assert "patient" in refused.json()["message"]
        (answer,) = client.post("/v1/predictions", files=files, data={"patient": "one"}).json()["predictions"]
    said("journal", "verify", cwd=project)
    out = said("journal", "replay", answer["id"], cwd=project)
    assert float(out.rpartition(" ")[2]) <= 1e-6, out


@pytest.mark.parametrize("name", BOTH)
def test_an_old_project_runs_again(old: Path, name: str) -> None:
    work = old / name / "work"
    before = json.loads((work / "verdict.json").read_text("utf-8"))["bundle"]
    ended = medloop("run", cwd=old / name)
    assert ended.code in {0, 3}, ended.out + ended.err
    verdict, report = (json.loads((work / file).read_text("utf-8")) for file in ("verdict.json", "report/report.json"))
    assert verdict["bundle"] == report["bundle"] != before
    assert set(report["facts"]) == {"split", "tune", "train", "export", "evaluate"}
