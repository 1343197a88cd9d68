"""The model store: nothing serves without a verdict on its bytes, and the pointer is always whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.case import Verdict
from medloop.errors import BrokenBundle, GateRefusal, UserError
from medloop.registry.follow import load_champion
from medloop.registry.store import ModelStore, Version, read_verdict, write_verdict
from medloop.storage import write_json
from tests.registry.versions import bundle_like, report_of, verdict_on

Register = Callable[..., Version]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def register(store: ModelStore, golden: Path, tmp_path: Path) -> Register:
    """Registers a version that differs from the others in its name."""

    def registered(name: str = "one", **verdict: Any) -> Version:
        bundle = bundle_like(golden, tmp_path / name, name=name)
        return store.register(bundle, report_of(bundle, tmp_path / f"{name}-report"), verdict_on(bundle, **verdict))

    return registered


def state(store: ModelStore) -> tuple[Any, ...]:
    """The pointer and everything that mirrors it."""
    metadata = json.loads((store.folder / "promotion_metadata.json").read_text("utf-8"))
    return store.champion(), (store.folder / "latest").readlink(), metadata


def in_line(store: ModelStore) -> bool:
    """Whether the mirrors say what the pointer says."""
    champion, link, metadata = state(store)
    return str(link) == f"versions/{champion.version}" and asdict(champion).items() <= metadata.items()


def test_a_version_holds_bundle_report_card_and_verdict(store: ModelStore, register: Register) -> None:
    version = register()
    assert sorted(path.name for path in version.folder.iterdir()) == [
        "bundle",
        "card.md",
        "report",
        "verdict.json",
        "version.json",
    ]
    assert Predictor.load(version.folder / "bundle").hash == version.bundle
    assert store.champion() is None


def test_registering_twice_is_once(store: ModelStore, register: Register, golden: Path, tmp_path: Path) -> None:
    first = register()
    later = replace(verdict_on(tmp_path / "one"), created="2027-01-01")
    again = store.register(tmp_path / "one", tmp_path / "one-report", later)
    assert again == first
    assert [version.number for version in store.versions()] == [1]


def test_another_decision_on_the_same_bytes_is_another_version(
    store: ModelStore, register: Register, tmp_path: Path
) -> None:
    refused = register(passed=False)
    allowed = store.register(tmp_path / "one", tmp_path / "one-report", verdict_on(tmp_path / "one"))
    assert (refused.number, allowed.number) == (1, 2)
    assert store.promote(2, by="me").version == 2
    with pytest.raises(GateRefusal):
        store.promote(1, by="me")


def test_promotion_points_to_the_version_and_mirrors_it(store: ModelStore, register: Register) -> None:
    version = register()
    champion = store.promote(version.number, by="Jo")
    assert (champion.version, champion.bundle, champion.previous, champion.by) == (1, version.bundle, None, "Jo")
    assert in_line(store)
    assert state(store)[2]["promoted_model"]["bundle"] == version.bundle
    assert (store.folder / "latest" / "bundle" / "model.onnx").is_file()
    assert store.promote(1, by="someone else") == champion


def test_the_service_loads_the_champion_by_its_number(store: ModelStore, register: Register) -> None:
    for name in ("one", "two"):
        register(name)
    store.promote(2, by="me")
    predictor = load_champion(ModelStore(store.folder))
    assert (predictor.version, predictor.meta["name"]) == ("2", "two")


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ({"passed": False}, "cv_recall_std: needed <= 0.05, found 0.07"),
        ({"passed": False, "rules": ()}, "another edition"),
        ({"smoke": True}, "a smoke run"),
        ({"edition": "another"}, "the verdict is on another edition"),
    ],
    ids=["failed", "failed without rules", "smoke", "another edition"],
)
def test_a_version_that_did_not_pass_never_serves(
    store: ModelStore, register: Register, verdict: dict[str, Any], told: str
) -> None:
    store.promote(register("good").number, by="me")
    before = state(store)
    with pytest.raises(GateRefusal, match=told):
        store.promote(register("bad", **verdict).number, by="me")
    assert state(store) == before
    assert GateRefusal.exit_code == 3


def test_a_verdict_on_other_bytes_is_refused(store: ModelStore, golden: Path, tmp_path: Path) -> None:
    bundle = bundle_like(golden, tmp_path / "one", name="one")
    with pytest.raises(GateRefusal, match="The verdict is on bundle"):
        store.register(bundle, report_of(bundle, tmp_path / "report"), verdict_on(golden))
    assert list(store.versions()) == []


def test_no_verdict_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(GateRefusal, match="Run `medloop gate`"):
        read_verdict(tmp_path / "verdict.json")


def test_a_verdict_is_read_as_it_was_written(golden: Path, tmp_path: Path) -> None:
    verdict: Verdict = verdict_on(golden)
    write_verdict(verdict, tmp_path / "verdict.json")
    assert read_verdict(tmp_path / "verdict.json") == verdict


@pytest.mark.parametrize(
    "name", ["bundle/model.onnx", "bundle/bundle.json", "verdict.json", "card.md", "report/report.json"]
)
def test_a_version_that_was_changed_is_named_and_never_serves(store: ModelStore, register: Register, name: str) -> None:
    store.promote(register("good").number, by="me")
    path = register("changed", passed=False).folder / name
    path.write_bytes(path.read_bytes().replace(b"false", b"true ") + b" ")
    assert len(store.verify()) == 1
    assert store.verify()[0].startswith("version 2: ")
    with pytest.raises((BrokenBundle, GateRefusal)):
        store.promote(2, by="me")
    assert state(store)[0].version == 1


def test_a_forged_verdict_is_found_even_if_it_names_the_right_bytes(store: ModelStore, register: Register) -> None:
    version = register(passed=False)
    path = version.folder / "verdict.json"
    write_verdict(replace(verdict_on(version.folder / "bundle"), created=version.verdict.created), path)
    with pytest.raises(BrokenBundle, match=r"version 1: verdict\.json was changed after registration"):
        store.promote(1, by="me")


def test_a_file_that_came_or_went_is_named(store: ModelStore, register: Register) -> None:
    version = register()
    (version.folder / "card.md").unlink()
    (version.folder / "report" / "more.json").write_text("{}")
    assert sorted(store.verify()) == [
        "version 1: card.md was changed after registration",
        "version 1: report/more.json was changed after registration",
    ]


def test_rolling_back_is_one_step_and_can_be_undone(store: ModelStore, register: Register) -> None:
    for name in ("one", "two"):
        store.promote(register(name).number, by="me")
    back = store.rollback(by="Jo")
    assert (back.version, back.previous, back.by) == (1, 2, "Jo")
    assert in_line(store)
    assert store.rollback(by="me").version == 2


def test_there_is_nothing_to_roll_back_to_at_first(store: ModelStore, register: Register) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="no previous version"):
            store.rollback(by="me")
        store.promote(register("one").number, by="me") if not list(store.versions()) else None


def test_rolling_back_to_a_broken_version_is_refused(store: ModelStore, register: Register) -> None:
    first = register("one")
    store.promote(first.number, by="me")
    store.promote(register("two").number, by="me")
    (first.folder / "bundle" / "model.onnx").write_bytes(b"")
    before = state(store)
    with pytest.raises(BrokenBundle):
        store.rollback(by="me")
    assert state(store) == before


def test_an_unknown_version_is_told_with_the_known_ones(store: ModelStore, register: Register) -> None:
    register("one")
    register("two")
    with pytest.raises(UserError, match="no version 7; the store has 1, 2"):
        store.promote(7, by="me")


def break_link(store: ModelStore) -> None:
    (store.folder / "latest").unlink()


def point_link_elsewhere(store: ModelStore) -> None:
    (store.folder / "latest").unlink()
    (store.folder / "latest").symlink_to("nowhere")


def lose_metadata(store: ModelStore) -> None:
    (store.folder / "promotion_metadata.json").unlink()


def old_metadata(store: ModelStore) -> None:
    write_json(store.folder / "promotion_metadata.json", {"version": 99})


def leave_half_a_link(store: ModelStore) -> None:
    (store.folder / ".latest.new").symlink_to("nowhere")


@pytest.mark.parametrize("harm", [break_link, point_link_elsewhere, lose_metadata, old_metadata, leave_half_a_link])
def test_verify_repairs_the_mirrors_from_the_pointer(
    store: ModelStore, register: Register, harm: Callable[[ModelStore], None]
) -> None:
    store.promote(register().number, by="me")
    before = state(store)
    harm(store)
    assert store.verify() == []
    assert state(store) == before
    assert not (store.folder / ".latest.new").is_symlink()


def test_verify_of_an_empty_store_finds_nothing(store: ModelStore) -> None:
    assert store.verify() == []


def test_a_pointer_to_other_bytes_is_told(store: ModelStore, register: Register) -> None:
    champion = store.promote(register().number, by="me")
    write_json(store.folder / "champion.json", {**asdict(champion), "bundle": "0" * 64})
    assert store.verify() == ["champion.json names another bundle than that of version 1"]


def test_a_version_that_is_still_being_written_does_not_count(store: ModelStore, register: Register) -> None:
    shutil.copytree(register().folder, store.folder / "versions" / ".2.partial")
    assert [version.number for version in store.versions()] == [1]
    assert register("two").number == 2


COMPARES = {"rules": [{"metric": "test_recall", "not_worse_by": 0.05}]}


def against(bundle: str | None) -> dict[str, Any]:
    """What a verdict says that was made by a comparison with this champion."""
    return {"gate": COMPARES, "champion": {"bundle": bundle} if bundle else None}


def test_a_comparison_with_a_champion_that_was_replaced_is_refused(store: ModelStore, register: Register) -> None:
    first = register("one", **against(None))
    store.promote(first.number, by="me")
    second, third = (register(name, **against(first.bundle)) for name in ("two", "three"))
    store.promote(second.number, by="me")
    with pytest.raises(
        GateRefusal, match=rf"compared with bundle {first.bundle[:12]}, but bundle {second.bundle[:12]} serves"
    ):
        store.promote(third.number, by="me")
    with pytest.raises(GateRefusal, match="compared with no champion"):
        store.promote(register("four", **against(None)).number, by="me")
    assert getattr(store.champion(), "version", None) == second.number
    assert store.promote(first.number, by="me").version == first.number
    assert store.promote(third.number, by="me").version == third.number


def test_two_at_once_that_were_compared_with_the_same_champion_one_wins(store: ModelStore, register: Register) -> None:
    first = register("one")
    store.promote(first.number, by="me")
    rivals = [register(name, **against(first.bundle)).number for name in ("two", "three")]

    def tried(number: int) -> bool:
        try:
            return ModelStore(store.folder).promote(number, by="me").version == number
        except GateRefusal:
            return False

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(tried, rivals)) == [False, True]


def test_a_second_person_promotes_where_the_verdict_or_the_caller_says_so(
    store: ModelStore, golden: Path, tmp_path: Path
) -> None:
    bundle = bundle_like(golden, tmp_path / "one", name="one")
    report = report_of(bundle, tmp_path / "report")
    strict = store.register(bundle, report, verdict_on(bundle, gate={"second_person": True}), by="Ann")
    for name in ("Ann", " ann", "\uff21nn", "", "unknown", "\uff35nknown"):
        with pytest.raises(GateRefusal, match=r"gate\.second_person requires two people"):
            store.promote(strict.number, by=name)
    assert store.promote(strict.number, by="Ben").by == "Ben"
    plain = store.register(bundle, report, verdict_on(bundle), by="Ann")
    with pytest.raises(GateRefusal, match="registered by Ann and would be promoted by Ann"):
        store.promote(plain.number, by="Ann", second_person=True)
    assert store.promote(plain.number, by="Ann").by == "Ann"


def test_the_newest_that_passed_and_has_not_served_is_the_challenger(store: ModelStore, register: Register) -> None:
    assert store.challenger() is None
    store.promote(register("one").number, by="me")
    assert store.challenger() is None
    register("two", smoke=True)
    register("three", passed=False)
    assert store.challenger() is None
    passed = register("four")
    register("five", passed=False)
    assert store.challenger() == passed
    store.promote(passed.number, by="me")
    assert store.challenger() is None
    store.rollback(by="me")
    assert store.challenger() is None


def test_a_verdict_of_before_there_were_warnings_is_still_read(store: ModelStore, register: Register) -> None:
    folder = register("one").folder
    content = json.loads((folder / "verdict.json").read_text("utf-8"))
    old = {name: content[name] for name in ("passed", "rules", "bundle", "edition", "created", "smoke")}
    write_json(folder / "verdict.json", old)
    assert read_verdict(folder / "verdict.json").warnings == ()


def test_a_large_bundle_is_rolled_back_within_a_second_of_a_core(
    store: ModelStore, golden: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        bundle = bundle_like(golden, tmp_path / name, name=name)
        (bundle / files.WEIGHTS).write_bytes(b"w" * 30_000_000)
        files.seal(bundle)
        store.promote(
            store.register(bundle, report_of(bundle, tmp_path / f"{name}-report"), verdict_on(bundle)).number, by="me"
        )
    started = time.process_time()
    store.rollback(by="me")
    assert time.process_time() - started < 1
