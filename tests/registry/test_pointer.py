"""The pointer to the champion only goes forward, and a damaged one is repaired from its copy."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from medloop.errors import GateRefusal, UserError
from medloop.registry.follow import load_champion
from medloop.registry.store import ModelStore, OlderPointer, read_verdict
from medloop.storage import write_json
from tests.loop_project import medloop
from tests.registry.versions import bundle_like, planted, point_to, report_of, verdict_on

BROKEN = {
    "empty": b"",
    "cut": b'{\n  "version": 2,\n  "bund',
    "a list": b"[]",
    "zeros": b"\0" * 200,
    "a counter in words": b'{"version": 1, "bundle": "", "previous": null, "promoted": "", "by": "", "counter": "1"}',
    "no version": b'{"version": 0, "bundle": "", "previous": null, "promoted": "", "by": ""}',
}


@pytest.fixture
def store(tmp_path: Path, golden: Path) -> ModelStore:
    """Three versions that may serve; the second does, after the first."""
    store = ModelStore(tmp_path / "models")
    for name in ("one", "two", "three"):
        bundle = bundle_like(golden, tmp_path / name, name=name)
        store.register(bundle, report_of(bundle, tmp_path / f"{name}-report"), verdict_on(bundle))
    store.promote(1, by="me")
    store.promote(2, by="me")
    return store


def counter_of(store: ModelStore) -> int:
    champion = store.champion()
    assert champion is not None
    assert json.loads((store.folder / "promotion_metadata.json").read_text("utf-8"))["counter"] == champion.counter
    return champion.counter


def test_each_change_has_a_larger_counter(store: ModelStore) -> None:
    seen = [counter_of(store)]
    for number in (3, 1, None, 2):
        store.promote(number, by="me") if number else store.rollback(by="me")
        seen.append(counter_of(store))
    assert seen == sorted(set(seen))


def test_a_pointer_of_an_older_medloop_counts_as_0(store: ModelStore) -> None:
    for name in ("champion.json", "promotion_metadata.json"):
        content = json.loads((store.folder / name).read_text("utf-8"))
        del content["counter"]
        write_json(store.folder / name, content)
    assert store.verify() == []
    assert counter_of(store) == 0
    assert load_champion(ModelStore(store.folder)).version == "2"
    assert store.promote(3, by="me").counter > 0


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_promote_writes_over_a_damaged_pointer_and_knows_what_served(store: ModelStore, content: bytes) -> None:
    before = counter_of(store)
    (store.folder / "champion.json").write_bytes(content)
    champion = store.promote(3, by="me")
    assert (champion.version, champion.previous) == (3, 2)
    assert counter_of(store) > before
    assert store.rollback(by="me").version == 2


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_verify_repairs_a_damaged_pointer_and_says_so_once(store: ModelStore, content: bytes) -> None:
    before = store.champion()
    assert before is not None
    (store.folder / "champion.json").write_bytes(content)
    assert "champion.json is damaged; it was restored" in store.repair()
    assert store.repair() == ""
    assert store.verify() == []
    repaired = store.champion()
    assert repaired is not None
    assert {**asdict(repaired), "counter": 0} == {**asdict(before), "counter": 0}
    assert repaired.counter > before.counter


def test_a_comparison_is_asked_for_while_the_pointer_is_damaged(
    store: ModelStore, golden: Path, tmp_path: Path
) -> None:
    bundle = bundle_like(golden, tmp_path / "four", name="four")
    compares = {"rules": [{"metric": "test_recall", "not_worse_by": 0.05}]}
    verdict = verdict_on(bundle, gate=compares, champion={"bundle": store.version(1).bundle, "version": 1})
    store.register(bundle, report_of(bundle, tmp_path / "four-report"), verdict)
    (store.folder / "champion.json").write_bytes(b"")
    with pytest.raises(GateRefusal, match=f"but bundle {store.version(2).bundle[:12]} serves now"):
        store.promote(4, by="me")


def test_where_nothing_tells_what_served_a_promotion_still_writes_a_larger_counter(store: ModelStore) -> None:
    before = counter_of(store)
    for name in ("champion.json", "promotion_metadata.json"):
        (store.folder / name).write_bytes(b"{")
    (problem,) = store.verify()
    assert "champion.json is damaged, and promotion_metadata.json does not name the version that served" in problem
    with pytest.raises(UserError, match="does not name a version"):
        store.rollback(by="me")
    reference = store.reference()
    assert reference is not None
    assert reference.version == 1
    assert store.promote(3, by="me").version == 3
    assert counter_of(store) > before
    assert store.reference() == reference
    assert store.verify() == []


def test_a_copy_that_names_what_may_not_serve_repairs_nothing(store: ModelStore) -> None:
    refused = store.version(3).folder
    content = read_verdict(refused / "verdict.json")
    write_json(refused / "verdict.json", {**asdict(content), "passed": False})
    facts = json.loads((store.folder / "promotion_metadata.json").read_text("utf-8"))
    write_json(store.folder / "promotion_metadata.json", {**facts, "version": 3, "bundle": store.version(3).bundle})
    (store.folder / "champion.json").write_bytes(b"")
    assert "does not name the version that served" in store.repair()


def test_the_service_starts_with_what_served_while_the_pointer_is_damaged(store: ModelStore) -> None:
    (store.folder / "champion.json").write_bytes(b"")
    assert load_champion(ModelStore(store.folder)).version == "2"


def test_a_pointer_from_before_is_not_followed_and_is_repaired(store: ModelStore, tmp_path: Path) -> None:
    older = (store.folder / "champion.json").read_bytes()
    store.promote(3, by="me")
    newest = counter_of(store)
    (store.folder / "champion.json").write_bytes(older)
    assert load_champion(ModelStore(store.folder)).version == "3"
    assert "champion.json is older than the last promotion; it was restored" in store.repair()
    assert counter_of(store) > newest
    assert load_champion(ModelStore(store.folder)).version == "3"
    assert issubclass(OlderPointer, UserError)


def test_the_commands_say_that_they_repaired_the_pointer(project: Path, golden: Path, tmp_path: Path) -> None:
    models = project / "models"
    before = json.loads((models / "champion.json").read_text("utf-8"))
    (models / "champion.json").write_bytes(b"")
    ended = medloop("models", "list", cwd=project)
    assert ended.code == 2
    assert "medloop models verify" in ended.err
    ended = medloop("models", "verify", cwd=project)
    assert ended.code == 0, ended.err
    assert "champion.json is damaged; it was restored from promotion_metadata.json: version 1 serves" in ended.out
    assert "damaged" not in medloop("models", "verify", cwd=project).out
    (models / "champion.json").write_bytes(b"")
    ended = medloop("models", "promote", "1", cwd=project)
    assert ended.code == 0, ended.err
    assert "champion.json is damaged; it was restored" in ended.out
    after = json.loads((models / "champion.json").read_text("utf-8"))
    assert after["counter"] > before["counter"]
    assert {**after, "counter": 0} == {**before, "counter": 0}


def test_a_version_under_another_number_is_told_even_where_nothing_is_signed(store: ModelStore, golden: Path) -> None:
    planted(store, 4, golden).rename(store.versions_folder / "5")
    assert store.verify() == ["version 5: registered as version 4"]
    with pytest.raises(UserError, match="registered as version 4"):
        store.promote(5, by="me")
    assert point_to(store, 5).version == 5
