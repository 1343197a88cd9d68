"""The reference version: the first that served, until a second person sets another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medloop.errors import GateRefusal, UserError
from medloop.registry.follow import load_champion
from medloop.registry.mirror import MirroredStore, open_store, publish
from medloop.registry.reference import REFERENCE
from medloop.registry.store import ModelStore, Version
from medloop.settings import Settings
from medloop.storage import write_json
from medloop.storage.objects import upload
from tests.registry.versions import bundle_like, report_of, verdict_on

Register = Callable[..., Version]
MARGIN = {"rules": [{"metric": "test_roc_auc", "not_worse_by": 0.03}]}
PLACE = "s3://scans/models"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def register(store: ModelStore, golden: Path, tmp_path: Path) -> Register:
    """Registers a version that differs from the others in its name."""

    def registered(name: str, **verdict: Any) -> Version:
        bundle = bundle_like(golden, tmp_path / name, name=name)
        report = report_of(bundle, tmp_path / f"{name}-report")
        return store.register(bundle, report, verdict_on(bundle, **verdict), by="Ann")

    return registered


@pytest.fixture
def three(store: ModelStore, register: Register) -> ModelStore:
    """Three versions that served one after the other."""
    for name in ("one", "two", "three"):
        store.promote(register(name).number, by="Ann")
    return store


def reference_of(store: ModelStore) -> int | None:
    reference = store.reference()
    return reference.version if reference else None


def forget(store: ModelStore) -> None:
    """As a medloop of before there was a reference version left it."""
    (store.folder / REFERENCE).unlink()


def test_the_first_that_served_stays_the_reference_whatever_serves(store: ModelStore, register: Register) -> None:
    register("refused", passed=False)
    assert reference_of(store) is None
    first = register("one")
    store.promote(first.number, by="Ann")
    stored = json.loads((store.folder / REFERENCE).read_text("utf-8"))
    assert (stored["version"], stored["bundle"], stored["by"]) == (2, first.bundle, "Ann")
    for change in (lambda: store.promote(register("two").number, by="me"), lambda: store.rollback(by="me")):
        change()
        assert reference_of(store) == 2
        metadata = json.loads((store.folder / "promotion_metadata.json").read_text("utf-8"))
        assert metadata["reference"]["version"] == 2


def test_a_reference_that_a_kill_left_before_the_pointer_does_not_count(store: ModelStore, register: Register) -> None:
    killed = register("one")
    facts = {"version": killed.number, "bundle": killed.bundle, "since": "2026-01-01", "by": "me"}
    write_json(store.folder / REFERENCE, facts)
    assert store.reference() is None
    store.promote(register("two").number, by="me")
    assert reference_of(store) == 2


def test_a_new_reference_is_what_serves_and_takes_a_second_person(three: ModelStore) -> None:
    with pytest.raises(GateRefusal, match=r"Version 2 does not serve \(version 3 does\)"):
        three.set_reference(2, by="Ben")
    for name in ("Ann", " ann", "\uff21nn", "", "unknown", "\uff35nknown"):
        with pytest.raises(GateRefusal, match="reference version requires two people"):
            three.set_reference(3, by=name)
    assert reference_of(three) == 1
    assert three.set_reference(3, by="Ben").by == "Ben"
    assert three.set_reference(3, by="Ann").by == "Ben"
    three.rollback(by="Ann")
    assert reference_of(three) == 3


def test_a_damaged_version_does_not_become_the_reference(three: ModelStore) -> None:
    (three.version(3).folder / "bundle" / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError):
        three.set_reference(3, by="Ben")
    assert reference_of(three) == 1


@pytest.mark.parametrize("repaired_by", ["verify", "migrate", "promotion"])
def test_an_older_store_is_given_the_first_version_that_served(
    three: ModelStore, register: Register, repaired_by: str
) -> None:
    forget(three)
    assert reference_of(three) == 1
    if repaired_by == "verify":
        assert three.verify() == []
    elif repaired_by == "migrate":
        assert getattr(three.migrate(), "version", None) == 1
        assert three.migrate() is None
    else:
        three.promote(register("four").number, by="me")
    assert json.loads((three.folder / REFERENCE).read_text("utf-8"))["version"] == 1


def test_what_waited_for_a_second_person_and_never_served_is_not_taken_for_the_reference(
    store: ModelStore, register: Register
) -> None:
    register("refused", passed=False)
    register("smoke", smoke=True)
    register("waited", gate={"second_person": True})
    served = register("served", gate={"second_person": True})
    store.promote(served.number, by="Ben")
    later = register("later", gate={"second_person": True}, champion={"version": 4, "bundle": served.bundle})
    store.promote(later.number, by="Ben")
    forget(store)
    assert reference_of(store) == 4


def test_a_version_that_was_not_held_against_the_reference_does_not_serve(
    three: ModelStore, register: Register
) -> None:
    champion, first = ({"version": n, "bundle": three.version(n).bundle} for n in (3, 1))
    unseen = register("four", gate=MARGIN, champion=champion)
    with pytest.raises(GateRefusal, match=rf"with the reference version 1 \(bundle {first['bundle'][:12]}\)"):
        three.promote(unseen.number, by="me")
    seen = register("five", gate=MARGIN, champion=champion, reference=first)
    assert three.promote(seen.number, by="me").version == seen.number
    assert three.rollback(by="me").version == 3


def test_verify_says_what_is_wrong_with_the_reference(three: ModelStore, register: Register) -> None:
    reference = three.reference()
    assert reference is not None
    write_json(three.folder / REFERENCE, {**asdict(reference), "bundle": "0" * 64})
    assert three.verify() == ["reference.json names another bundle than that of version 1"]
    refused = register("four", passed=False)
    write_json(three.folder / REFERENCE, {**asdict(reference), "version": refused.number, "bundle": refused.bundle})
    assert three.verify() == [f"reference.json names version {refused.number}, which was refused"]
    (three.folder / REFERENCE).write_text("{}", encoding="utf-8")
    assert [problem.partition(":")[0] for problem in three.verify()] == ["reference.json"]
    assert three.rollback(by="me").version == 2


@pytest.mark.usefixtures("bucket")
def test_the_reference_is_copied_with_what_serves(three: ModelStore, tmp_path: Path) -> None:
    copy = open_store(Settings(models=PLACE), tmp_path / "elsewhere")
    assert isinstance(copy, MirroredStore)
    assert copy.reference() is None
    publish(three, PLACE)
    assert copy.reference() == three.reference()
    assert copy.find(three.version(1).bundle, version="1") is not None


def test_what_the_gate_refused_shadows_nowhere_even_if_an_older_copy_names_it(
    bucket: Callable[[str, bytes], None], three: ModelStore, register: Register, tmp_path: Path
) -> None:
    passed, refused = register("passed"), register("refused", passed=False)
    copy = open_store(Settings(models=PLACE), tmp_path / "elsewhere")
    publish(three, PLACE)
    assert load_champion(copy).version == "3"
    copy.follow_challenger()
    assert getattr(copy.challenger(), "number", None) == passed.number
    paths = [path for path in refused.folder.rglob("*") if path.is_file()]
    upload(paths, [f"{PLACE}/{path.relative_to(three.folder).as_posix()}" for path in paths])
    bucket("models/challenger.json", json.dumps(asdict(refused.numbered)).encode())
    copy.follow_challenger()
    assert copy.challenger() is None
