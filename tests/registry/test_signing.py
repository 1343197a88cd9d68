"""Signatures: made on request with OpenSSF's library, and demanded only where the settings hold a public key."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medloop.bundle import files
from medloop.case import Verdict
from medloop.errors import BrokenBundle, UserError
from medloop.registry.contents import write_description
from medloop.registry.follow import load_champion
from medloop.registry.signing import check_signature, sign_bundle
from medloop.registry.store import ModelStore, Version, read_verdict, write_verdict
from medloop.storage import write_json
from tests.registry.versions import bundle_like, point_to, report_of, verdict_on


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key as `openssl ecparam -name prime256v1 -genkey` makes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path, "ours")


def registered(store: ModelStore, golden: Path, folder: Path, *, key: Path | None) -> Version:
    bundle = folder / "one" if (folder / "one").exists() else bundle_like(golden, folder / "one", name="one")
    return store.register(bundle, report_of(bundle, folder / "report"), verdict_on(bundle), key=key)


def test_a_signed_version_serves_where_signatures_are_demanded(
    golden: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    store = ModelStore(tmp_path / "models", verify_key=keys[1])
    version = registered(store, golden, tmp_path, key=keys[0])
    assert store.promote(version.number, by="me").version == 1
    assert store.bundle(1) == version.folder / "bundle"
    assert store.verify() == []


def test_an_unsigned_version_does_not_and_can_be_registered_again_signed(
    golden: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    store = ModelStore(tmp_path / "models", verify_key=keys[1])
    registered(store, golden, tmp_path, key=None)
    with pytest.raises(BrokenBundle, match=r"is not signed|only the bundle is signed"):
        store.promote(1, by="me")
    with pytest.raises(BrokenBundle, match=r"is not signed|only the bundle is signed"):
        store.bundle(1)
    ModelStore(store.folder).promote(1, by="me")
    assert load_champion(ModelStore(store.folder)).version == "1"
    with pytest.raises(BrokenBundle, match=r"is not signed|only the bundle is signed"):
        load_champion(ModelStore(store.folder, verify_key=keys[1]))
    signed = registered(store, golden, tmp_path, key=keys[0])
    assert signed.number == 2
    assert registered(store, golden, tmp_path, key=keys[0]) == signed
    assert store.promote(2, by="me").version == 2
    assert load_champion(ModelStore(store.folder, verify_key=keys[1])).version == "2"


def test_a_signature_by_somebody_else_is_refused(golden: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    theirs, _ = make_keys(tmp_path, "theirs")
    store = ModelStore(tmp_path / "models", verify_key=keys[1])
    version = registered(store, golden, tmp_path, key=theirs)
    with pytest.raises(BrokenBundle, match=r"does not match signing\.verify_key"):
        store.promote(version.number, by="me")


def test_a_bundle_that_was_changed_and_sealed_anew_is_refused(
    golden: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    bundle, signature = bundle_like(golden, tmp_path / "one", name="one"), tmp_path / "bundle.sig"
    sign_bundle(bundle, signature, key=keys[0])
    check_signature(bundle, signature, key=keys[1])
    meta = json.loads((bundle / files.META).read_text("utf-8"))
    write_json(bundle / files.META, {**meta, "name": "forged"})
    files.seal(bundle)
    with pytest.raises(BrokenBundle, match=r"does not match signing\.verify_key"):
        check_signature(bundle, signature, key=keys[1])


@pytest.mark.parametrize("text", ["", "{}", "null", '{"dsseEnvelope": 1}'])
def test_a_broken_signature_is_refused(text: str, golden: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (tmp_path / "bundle.sig").write_text(text)
    with pytest.raises(BrokenBundle, match=r"does not match signing\.verify_key"):
        check_signature(golden, tmp_path / "bundle.sig", key=keys[1])


def test_a_key_that_is_none_is_told(golden: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"no key file absent\.pem"):
        sign_bundle(golden, tmp_path / "bundle.sig", key=tmp_path / "absent.pem")
    with pytest.raises(UserError, match="not an elliptic curve private key"):
        sign_bundle(golden, tmp_path / "bundle.sig", key=keys[1])


def test_without_the_library_only_what_is_asked_to_sign_fails(
    golden: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    store = ModelStore(tmp_path / "models")
    assert store.promote(registered(store, golden, tmp_path, key=None).number, by="me").version == 1
    with pytest.raises(UserError, match=r"pip install .medloop\[sign\]"):
        registered(store, golden, tmp_path, key=keys[0])
    assert [version.number for version in store.versions()] == [1]


@pytest.fixture
def signed(golden: Path, tmp_path: Path, keys: tuple[Path, Path]) -> ModelStore:
    """A store of three signed versions: one that served, one that serves, one that the gate refused."""
    store = ModelStore(tmp_path / "models", verify_key=keys[1])
    for name in ("one", "two", "three"):
        bundle = bundle_like(golden, tmp_path / name, name=name)
        verdict = verdict_on(bundle, passed=name != "three")
        store.register(bundle, report_of(bundle, tmp_path / f"{name}-report"), verdict, key=keys[0])
    for number in (1, 2):
        store.promote(number, by="me")
    return store


def registered_anew(folder: Path, number: int) -> None:
    """The description as it would be of what lies there now."""
    content = json.loads((folder / "version.json").read_text("utf-8"))
    write_description(folder, number=number, **{name: content[name] for name in ("bundle", "created", "by")})


def edit_verdict(store: ModelStore) -> int:
    folder = store.version(3).folder
    verdict: Verdict = read_verdict(folder / "verdict.json")
    rules = tuple(replace(rule, passed=True) for rule in verdict.rules)
    write_verdict(replace(verdict, passed=True, rules=rules), folder / "verdict.json")
    registered_anew(folder, 3)
    return 3


def edit_card(store: ModelStore) -> int:
    folder = store.version(1).folder
    (folder / "card.md").write_text("# Finds everything\n")
    registered_anew(folder, 1)
    return 1


def edit_report(store: ModelStore) -> int:
    folder = store.version(1).folder
    write_json(folder / "report" / "report.json", {"scores": {"test_roc_auc": 1.0}})
    registered_anew(folder, 1)
    return 1


def copy_under_another_number(store: ModelStore) -> int:
    shutil.copytree(store.version(1).folder, store.versions_folder / "4")
    return 4


def copy_with_another_number_written_in(store: ModelStore) -> int:
    registered_anew(store.versions_folder / str(copy_under_another_number(store)), 4)
    return 4


def leave_the_signature_of_the_bundle_alone(store: ModelStore) -> int:
    number = edit_verdict(store)
    (store.version(number).folder / "version.sig").unlink()
    return number


FORGERIES = {
    one.__name__: one
    for one in (
        *(edit_verdict, edit_card, edit_report, copy_under_another_number),
        *(copy_with_another_number_written_in, leave_the_signature_of_the_bundle_alone),
    )
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_signature_covers_the_whole_version_and_its_number(
    signed: ModelStore, forge: Callable[[ModelStore], int]
) -> None:
    number = forge(signed)
    with pytest.raises(BrokenBundle):
        signed.promote(number, by="me")
    assert getattr(signed.champion(), "version", None) == 2
    assert any(problem.startswith(f"version {number}: ") for problem in signed.verify())
    point_to(signed, number)
    with pytest.raises(BrokenBundle):
        load_champion(ModelStore(signed.folder, verify_key=signed.verify_key))


def test_a_signed_version_that_the_gate_refused_does_not_serve_though_the_pointer_names_it(signed: ModelStore) -> None:
    point_to(signed, 3)
    with pytest.raises(UserError, match="did not pass the gate"):
        load_champion(ModelStore(signed.folder, verify_key=signed.verify_key))


def made_old(store: ModelStore) -> None:
    """The versions as an older medloop signed them: their bundles alone, and no number."""
    for version in store.versions():
        (version.folder / "version.sig").unlink()
        content = json.loads((version.folder / "version.json").read_text("utf-8"))
        del content["number"]
        write_json(version.folder / "version.json", content)


def test_a_bundle_signed_by_an_older_medloop_is_signed_anew_as_a_whole(
    signed: ModelStore, keys: tuple[Path, Path]
) -> None:
    made_old(signed)
    with pytest.raises(BrokenBundle, match="run `medloop models migrate`"):
        load_champion(ModelStore(signed.folder, verify_key=keys[1]))
    assert len(signed.verify()) == 3
    assert signed.sign_anew(key=None) == (
        [],
        [f"version {number}: signing.key and signing.verify_key are not both set" for number in (1, 2, 3)],
    )
    assert signed.sign_anew(key=keys[0]) == ([1, 2, 3], [])
    assert signed.sign_anew(key=keys[0]) == ([], [])
    assert signed.verify() == []
    assert load_champion(ModelStore(signed.folder, verify_key=keys[1])).version == "2"


def test_what_the_old_signature_does_not_fit_is_not_signed_anew(
    signed: ModelStore, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    made_old(signed)
    shutil.copytree(signed.version(1).folder, signed.versions_folder / "4")
    shutil.copy(signed.version(1).folder / "bundle.sig", signed.version(2).folder / "bundle.sig")
    (signed.version(3).folder / "card.md").write_text("# Better\n")
    (signed.versions_folder / "5").mkdir()
    shutil.copytree(signed.version(1).folder, signed.versions_folder / "5", dirs_exist_ok=True)
    (signed.versions_folder / "5" / "bundle.sig").unlink()
    done, left = signed.sign_anew(key=keys[0])
    mismatch = "The bundle has a signature that does not match signing.verify_key, or was changed after it was signed"
    assert done == [1]
    assert left == [
        f"version 2: {mismatch}",
        "version 3: card.md was changed after registration",
        "version 4: a copy of version 1",
    ]
    assert not (signed.versions_folder / "5" / "version.sig").exists()
    theirs = ModelStore(signed.folder, verify_key=make_keys(tmp_path, "theirs")[1])
    assert theirs.sign_anew(key=keys[0])[0] == []
