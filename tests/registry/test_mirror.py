"""A model store copied to a real S3 server, and followed from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.bundle.predictor import Predictor
from medloop.errors import BrokenBundle, GateRefusal, UserError
from medloop.registry import mirror
from medloop.registry.follow import ChampionWatcher, LoadedModel, load_champion
from medloop.registry.mirror import MirroredStore, mirror_to, open_store, publish
from medloop.registry.store import BROKEN, Champion, ModelStore, parse_champion
from medloop.settings import Settings, SigningSettings, StorageSettings
from medloop.storage import list_uris
from medloop.storage.objects import StorageAway, read, remove_older, upload
from tests.registry.test_signing import make_keys
from tests.registry.versions import bundle_like, report_of, verdict_on

PLACE = "s3://scans/models"
Put = Callable[[str, bytes], None]


def register(store: ModelStore, golden: Path, name: str, *, key: Path | None = None) -> None:
    work = store.folder.parent / name
    bundle = bundle_like(golden, work / "bundle", name=name)
    store.register(bundle, report_of(bundle, work / "report"), verdict_on(bundle), key=key)


@pytest.fixture
def store(golden: Path, tmp_path: Path) -> ModelStore:
    """Three versions in a project, the first of which serves."""
    store = ModelStore(tmp_path / "project" / "models")
    for name in ("one", "two", "three"):
        register(store, golden, name)
    store.promote(1, by="me")
    return store


@pytest.fixture
def copy(tmp_path: Path) -> MirroredStore:
    """The store as a machine without the project's disk sees it."""
    opened = open_store(Settings(models=PLACE), tmp_path / "elsewhere")
    assert isinstance(opened, MirroredStore)
    return opened


def keys() -> set[str]:
    return {uri.removeprefix(f"{PLACE}/") for uri in list_uris(PLACE)}


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(mirror, "POINTER_TIMEOUT_S", 1.0)


def brought(copy: MirroredStore) -> set[str]:
    return {path.name for path in copy.versions_folder.iterdir() if path.is_dir()}


class Looking:
    """A service's part in following: what it took and what it refused."""

    def __init__(self, store: ModelStore) -> None:
        self.watcher = ChampionWatcher(store, threads=1)
        self.model = self.watcher.load()
        self.refused: list[tuple[str, str]] = []

    def look(self) -> str:
        self.watcher.check(self.model, activate=self.activate, refuse=lambda *what: self.refused.append(what))
        return self.model.predictor.version

    def activate(self, model: LoadedModel) -> None:
        self.model = model


class Follower:
    """A machine that serves and shadows what is copied to it: the numbers of both."""

    def __init__(self, store: ModelStore, copy: MirroredStore) -> None:
        self.store, self.copy = store, copy

    def follow(self) -> tuple[int, int | None]:
        publish(self.store, PLACE)
        self.copy.follow_challenger()
        return self.look()

    def look(self) -> tuple[int, int | None]:
        version = load_champion(self.copy).version
        challenger = self.copy.challenger()
        return int(version), challenger.number if challenger else None


def test_what_serves_and_what_may_shadow_it_are_copied_whole_with_the_pointers(bucket: Put, store: ModelStore) -> None:
    assert mirror_to(PLACE, store) == f"copied to {PLACE}"
    folders = [store.version(number).folder for number in (1, 3)]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    everything = {*(path.relative_to(store.folder).as_posix() for path in paths)}
    everything |= {"champion.json", "challenger.json", "reference.json"}
    assert keys() == everything
    assert mirror_to(f"{PLACE}/", store) == f"copied to {PLACE}/"
    assert keys() == everything


def test_without_a_champion_or_an_address_nothing_is_copied(bucket: Put, tmp_path: Path, store: ModelStore) -> None:
    assert mirror_to(PLACE, ModelStore(tmp_path / "none")) == ""
    assert mirror_to(None, store) == ""
    publish(ModelStore(tmp_path / "none"), PLACE)
    assert keys() == set()


def test_the_copy_serves_and_follows_promotions_and_rollbacks(
    bucket: Put, store: ModelStore, copy: MirroredStore
) -> None:
    publish(store, PLACE)
    service = Looking(copy)
    assert service.look() == "1"
    for change, version, here in (
        (lambda: store.promote(2, by="me"), "2", {"1", "2"}),
        (lambda: store.promote(3, by="me"), "3", {"2", "3"}),
        (lambda: store.rollback(by="me"), "2", {"2", "3"}),
    ):
        change()
        publish(store, PLACE)
        assert service.look() == version
        assert brought(copy) == here
        assert copy.champion() == store.champion()
    assert service.refused == []
    assert copy.challenger() is None
    assert [one.number for one in copy.versions()] == [2, 3]


def test_the_copy_follows_who_may_shadow(bucket: Put, store: ModelStore, copy: MirroredStore, golden: Path) -> None:
    service = Follower(store, copy)
    assert service.follow() == (1, 3)
    register(store, golden, "four")
    assert service.follow() == (1, 4)
    # Who is promoted shadows nobody, whatever the object store still says.
    store.promote(4, by="me")
    stale = read(f"{PLACE}/challenger.json", seconds=10.0)
    assert stale is not None
    publish(store, PLACE)
    bucket("models/challenger.json", stale)
    assert service.look() == (4, None)
    assert service.follow() == (4, None)
    store.rollback(by="me")
    register(store, golden, "five")
    assert service.follow() == (1, 5)
    assert brought(copy) == {"1", "4", "5"}


def test_a_challenger_outlives_a_restart_while_the_object_store_is_away(
    bucket: Put, store: ModelStore, copy: MirroredStore, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Follower(store, copy)
    assert service.follow() == (1, 3)
    register(store, golden, "four")
    publish(store, PLACE)
    with monkeypatch.context() as hidden:
        away(hidden)
        again = MirroredStore(PLACE, copy.folder, limits=mirror.Limits())
        for one in (copy, again):
            with pytest.raises(StorageAway):
                one.follow_challenger()
            assert one.challenger() == copy.version(3)
    for one in (copy, again):
        one.follow_challenger()
        assert one.challenger() == copy.version(4)


@pytest.mark.parametrize("name", ["versions/3/version.json", "challenger.json"])
def test_a_broken_challenger_is_told_once_and_shadows_nobody(
    name: str, bucket: Put, store: ModelStore, copy: MirroredStore, golden: Path
) -> None:
    service = Follower(store, copy)
    publish(store, PLACE)
    for content in (b"{}", b"[1", b'{"version": 3, "bundle": "0"}', b'{"version": "../3", "bundle": ""}'):
        bucket(f"models/{name}", content)
        with pytest.raises(BROKEN):
            MirroredStore(PLACE, copy.folder, limits=mirror.Limits()).follow_challenger()
    assert service.look() == (1, None)
    with pytest.raises(BROKEN):
        copy.follow_challenger()
    copy.follow_challenger()
    assert service.look() == (1, None)
    register(store, golden, "four")
    assert service.follow() == (1, 4)


def test_a_bundle_that_served_once_is_fetched_again(
    bucket: Put, store: ModelStore, copy: MirroredStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.version(1).bundle
    publish(store, PLACE)
    service = Looking(copy)
    for number in (2, 3):
        store.promote(number, by="me")
        publish(store, PLACE)
        service.look()
    assert brought(copy) == {"2", "3"}
    found = copy.find(first, version="1")
    assert found == copy.versions_folder / "1" / "bundle"
    assert Predictor.load(found).hash == first
    for version in ("7", "unregistered", "2"):
        assert copy.find("0" * 64, version=version) is None
    away(monkeypatch)
    assert copy.find(first, version="1") == found
    with pytest.raises(StorageAway):
        copy.find("0" * 64, version="2")


def test_while_the_object_store_is_away_the_old_version_goes_on_even_after_a_restart(
    bucket: Put,
    store: ModelStore,
    copy: MirroredStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(store, PLACE)
    service = Looking(copy)
    with monkeypatch.context() as hidden:
        away(hidden)
        assert [service.look(), service.look()] == ["1", "1"]
        again = Looking(copy)
        assert again.look() == "1"
        with pytest.raises(StorageAway, match="The object store failed"):
            MirroredStore(PLACE, copy.folder.parent / "new", limits=mirror.Limits()).pointer()
    store.promote(2, by="me")
    publish(store, PLACE)
    assert [service.look(), again.look()] == ["2", "2"]
    assert service.refused == again.refused == []
    told = [record.getMessage() for record in caplog.records]
    # The one that started in the meantime has its own message.
    assert told.count("the object store of the models is unavailable") == 1
    assert told.count("the object store is available again") == 2
    assert told.count("the champion cannot be fetched; the last one that served here is used") == 1


def test_a_first_start_needs_the_object_store(
    bucket: Put, copy: MirroredStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="No version has been promoted yet"):
        load_champion(copy)
    away(monkeypatch)
    with pytest.raises(StorageAway):
        load_champion(copy)


@pytest.mark.parametrize("name", ["bundle/model.onnx", "version.json", "verdict.json", "report/report.json"])
def test_a_broken_version_is_refused_and_the_old_one_serves_on_even_after_a_restart(
    name: str, bucket: Put, store: ModelStore, copy: MirroredStore
) -> None:
    publish(store, PLACE)
    service = Looking(copy)
    store.promote(2, by="me")
    publish(store, PLACE)
    bucket(f"models/versions/2/{name}", b"{}")
    assert [service.look(), service.look()] == ["1", "1"]
    assert [version for version, _ in service.refused] == ["2"]
    again = Looking(copy)
    assert again.look() == "1"
    assert [version for version, _ in again.refused] == ["2"]
    publish_anew(store)
    again = Looking(copy)
    assert again.look() == "2"


def publish_anew(store: ModelStore) -> None:
    from datetime import UTC, datetime

    remove_older(f"{PLACE}/versions", datetime(2100, 1, 1, tzinfo=UTC))
    publish(store, PLACE)


@pytest.mark.parametrize(
    "pointer",
    [
        b"{",
        b"[]",
        b'{"version": 1}',
        b"\xff",
        b'{"version": "../1", "bundle": "", "previous": 0, "promoted": "", "by": ""}',
    ],
    ids=["cut", "list", "part", "bytes", "path"],
)
def test_a_broken_pointer_changes_nothing(pointer: bytes, bucket: Put, store: ModelStore, copy: MirroredStore) -> None:
    publish(store, PLACE)
    service = Looking(copy)
    bucket("models/champion.json", pointer)
    assert [service.look(), service.look()] == ["1", "1"]
    assert service.refused == [("unknown", "UserError")]
    with pytest.raises(UserError, match=r"champion\.json does not name a version"):
        parse_champion(pointer)


def test_a_version_that_the_pointer_does_not_name_by_its_hash_is_refused(
    bucket: Put, store: ModelStore, copy: MirroredStore
) -> None:
    publish(store, PLACE)
    pointer = json.loads((store.folder / "champion.json").read_bytes())
    with pytest.raises(BrokenBundle, match="is not the bundle that was promoted"):
        copy.fetch_bundle(Champion(**{**pointer, "bundle": "0" * 64}))


def test_a_copy_that_was_spoiled_here_is_fetched_again(bucket: Put, store: ModelStore, copy: MirroredStore) -> None:
    publish(store, PLACE)
    assert Looking(copy).look() == "1"
    (copy.version(1).folder / "bundle" / "model.onnx").write_bytes(b"other")
    assert Looking(copy).look() == "1"
    shutil.rmtree(copy.version(1).folder / "report")
    assert Looking(copy).look() == "1"


def test_the_gate_holds_for_the_copy(bucket: Put, golden: Path, tmp_path: Path, copy: MirroredStore) -> None:
    store = ModelStore(tmp_path / "project" / "models")
    bundle = bundle_like(golden, tmp_path / "bad", name="bad")
    store.register(bundle, report_of(bundle, tmp_path / "report"), verdict_on(bundle, passed=False))
    pointer = {"version": 1, "bundle": store.version(1).bundle, "previous": None, "promoted": "", "by": ""}
    (store.folder / "champion.json").write_text(json.dumps(pointer), encoding="utf-8")
    publish(store, PLACE)
    with pytest.raises(GateRefusal, match="did not pass the gate"):
        load_champion(copy)


def test_the_signature_holds_for_the_copy(bucket: Put, golden: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "ours")
    theirs, _ = make_keys(tmp_path, "theirs")
    signing = SigningSettings(verify_key=str(public))
    copy = open_store(Settings(models=PLACE, signing=signing), tmp_path / "elsewhere")
    store = ModelStore(tmp_path / "project" / "models")
    register(store, golden, "one", key=private)
    register(store, golden, "two", key=theirs)
    register(store, golden, "three")
    store.promote(1, by="me")
    publish(store, PLACE)
    service = Looking(copy)
    for number in (2, 3):
        store.promote(number, by="me")
        publish(store, PLACE)
        assert service.look() == "1"
    assert service.refused == [("2", "BrokenBundle"), ("3", "BrokenBundle")]


def test_another_version_of_the_same_number_is_not_written_over(
    bucket: Put, store: ModelStore, golden: Path, tmp_path: Path
) -> None:
    publish(store, PLACE)
    pointer = (store.folder / "champion.json").read_bytes()
    other = ModelStore(tmp_path / "other" / "models")
    register(other, golden, "another")
    other.promote(1, by="me")
    said = mirror_to(PLACE, other)
    assert said.startswith(f"not copied to {PLACE} (The object store already has a different version 1); `medloop")
    assert load_champion(open_store(Settings(models=PLACE), tmp_path)).hash == parse_champion(pointer).bundle


def test_what_a_killed_copy_left_out_is_added(bucket: Put, store: ModelStore, copy: MirroredStore) -> None:
    folder = store.version(1).folder
    upload([folder / "card.md"], [f"{PLACE}/versions/1/card.md"])
    bucket("models/versions/1/verdict.json", b"")
    publish(store, PLACE)
    assert load_champion(copy).version == "1"


def test_the_copy_is_read_only(bucket: Put, store: ModelStore, copy: MirroredStore, golden: Path) -> None:
    publish(store, PLACE)
    load_champion(copy)
    for change in (
        lambda: copy.promote(1, by="me"),
        lambda: copy.rollback(by="me"),
        lambda: register(copy, golden, "more"),
        copy.verify,
    ):
        with pytest.raises(UserError, match="follows a copy of the model store"):
            change()


def test_a_version_larger_than_the_settings_allow_is_refused(bucket: Put, store: ModelStore, tmp_path: Path) -> None:
    publish(store, PLACE)
    settings = Settings(models=PLACE, storage=StorageSettings(max_gib=1e-6))
    with pytest.raises(UserError, match="are allowed"):
        load_champion(open_store(settings, tmp_path))


def test_the_settings_name_a_folder_or_an_object_store(tmp_path: Path) -> None:
    assert open_store(Settings(), tmp_path).folder == tmp_path / "models"
    one, other = (open_store(Settings(models=f"s3://{name}/m"), tmp_path) for name in ("a", "b"))
    assert one.folder != other.folder
    assert one.folder.parent == tmp_path / "work" / "models-cache"
    with pytest.raises(UserError, match="unsupported scheme https"):
        open_store(Settings(models="https://example.org/models"), tmp_path)
    with pytest.raises(ValueError, match="mirror"):
        Settings(mirror="models")
