"""A copy in an object store never goes back: not to an older pointer, and not past the signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.errors import BrokenBundle
from medloop.registry.follow import load_champion
from medloop.registry.mirror import MirroredStore, mirror_to, open_store, publish
from medloop.registry.store import ModelStore
from medloop.settings import Settings, SigningSettings
from medloop.storage import read_json, write_json
from tests.registry.test_mirror import PLACE, Looking, Put, copy, register, store
from tests.registry.test_signing import made_old, make_keys, registered_anew

__all__ = ["copy", "store"]


def pointer_of(store: ModelStore) -> bytes:
    return (store.folder / "champion.json").read_bytes()


def test_an_older_pointer_is_refused_even_after_a_restart(
    bucket: Put, store: ModelStore, copy: MirroredStore, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, PLACE)
    older = pointer_of(store)
    service = Looking(copy)
    store.promote(2, by="me")
    publish(store, PLACE)
    assert service.look() == "2"
    bucket("models/champion.json", older)
    assert [service.look() for _ in range(3)] == ["2"] * 3
    assert service.refused == [("1", "OlderPointer")]
    again = Looking(copy)
    assert [again.look() for _ in range(3)] == ["2"] * 3
    assert again.refused == [("1", "OlderPointer")]
    assert copy.champion() == store.champion()
    store.rollback(by="me")
    publish(store, PLACE)
    assert [service.look(), again.look()] == ["1", "1"]


def test_a_store_that_was_put_back_does_not_replace_a_later_promotion(
    bucket: Put, store: ModelStore, copy: MirroredStore
) -> None:
    before = {name: (store.folder / name).read_bytes() for name in ("champion.json", "promotion_metadata.json")}
    store.promote(2, by="me")
    publish(store, PLACE)
    for name, content in before.items():
        (store.folder / name).write_bytes(content)
    said = mirror_to(PLACE, store)
    assert said.startswith(f"not copied to {PLACE} (The object store has a later promotion than this model store); `")
    assert load_champion(copy).version == "2"
    store.promote(3, by="me")
    assert mirror_to(PLACE, store) == f"copied to {PLACE}"
    assert load_champion(copy).version == "3"


def test_a_damaged_pointer_there_is_replaced(bucket: Put, store: ModelStore, copy: MirroredStore) -> None:
    publish(store, PLACE)
    bucket("models/champion.json", b"{")
    publish(store, PLACE)
    assert load_champion(copy).version == "1"


def test_a_damaged_pointer_that_was_kept_here_is_fetched_again(
    bucket: Put, store: ModelStore, copy: MirroredStore
) -> None:
    publish(store, PLACE)
    assert load_champion(copy).version == "1"
    (copy.folder / "champion.json").write_bytes(b"")
    assert load_champion(copy).version == "1"
    assert copy.champion() == store.champion()


def test_signatures_of_whole_versions_reach_a_copy_that_an_older_medloop_made(
    bucket: Put, golden: Path, tmp_path: Path
) -> None:
    private, public = make_keys(tmp_path, "ours")
    store = ModelStore(tmp_path / "project" / "models", verify_key=public)
    for name in ("one", "two"):
        register(store, golden, name, key=private)
    store.promote(1, by="me")
    made_old(store)
    publish(store, PLACE)
    signing = SigningSettings(verify_key=str(public))
    copy = open_store(Settings(models=PLACE, signing=signing), tmp_path / "elsewhere")
    unsigned = open_store(Settings(models=PLACE), tmp_path / "elsewhere")
    assert load_champion(unsigned).version == "1"
    unsigned.follow_challenger()
    with pytest.raises(BrokenBundle, match=r"is not signed|only the bundle is signed"):
        load_champion(copy)
    assert store.sign_anew(key=private) == ([1, 2], [])
    publish(store, PLACE)
    assert load_champion(copy).version == "1"
    copy.follow_challenger()
    challenger = copy.challenger()
    assert challenger is not None
    assert copy.bundle(challenger.number).is_dir()


def test_an_edited_verdict_in_the_object_store_is_refused(bucket: Put, golden: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "ours")
    store = ModelStore(tmp_path / "project" / "models")
    for name in ("one", "two"):
        register(store, golden, name, key=private)
    folder = store.version(2).folder
    verdict = read_json(folder / "verdict.json")
    write_json(folder / "verdict.json", {**verdict, "warnings": ["none at all"]})
    registered_anew(folder, 2)
    store.promote(1, by="me")
    publish(store, PLACE)
    signing = SigningSettings(verify_key=str(public))
    service = Looking(open_store(Settings(models=PLACE, signing=signing), tmp_path / "elsewhere"))
    store.promote(2, by="me")
    publish(store, PLACE)
    assert service.look() == "1"
    assert service.refused == [("2", "BrokenBundle")]
