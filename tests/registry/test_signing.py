"""Signatures: made on request with OpenSSF's library, and demanded only where the settings hold a public key."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medloop.bundle import files
from medloop.errors import BrokenBundle, UserError
from medloop.registry.signing import check_signature, sign_bundle
from medloop.registry.store import ModelStore, Version
from medloop.serve.champion import load_champion
from medloop.storage import write_json

from .versions import bundle_like, report_of, verdict_on


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
    with pytest.raises(BrokenBundle, match="must be signed to serve here"):
        store.promote(1, by="me")
    with pytest.raises(BrokenBundle, match="must be signed to serve here"):
        store.bundle(1)
    ModelStore(store.folder).promote(1, by="me")
    assert load_champion(ModelStore(store.folder)).version == "1"
    with pytest.raises(BrokenBundle, match="must be signed to serve here"):
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
    with pytest.raises(BrokenBundle, match="a signature that does not fit"):
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
    with pytest.raises(BrokenBundle, match="a signature that does not fit"):
        check_signature(bundle, signature, key=keys[1])


@pytest.mark.parametrize("text", ["", "{}", "null", '{"dsseEnvelope": 1}'])
def test_a_broken_signature_is_refused(text: str, golden: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (tmp_path / "bundle.sig").write_text(text)
    with pytest.raises(BrokenBundle, match="a signature that does not fit"):
        check_signature(golden, tmp_path / "bundle.sig", key=keys[1])


def test_a_key_that_is_none_is_told(golden: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"no absent\.pem"):
        sign_bundle(golden, tmp_path / "bundle.sig", key=tmp_path / "absent.pem")
    with pytest.raises(UserError, match="must be a private key on an elliptic curve"):
        sign_bundle(golden, tmp_path / "bundle.sig", key=keys[1])


def test_without_the_library_only_what_is_asked_to_sign_fails(
    golden: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    store = ModelStore(tmp_path / "models")
    assert store.promote(registered(store, golden, tmp_path, key=None).number, by="me").version == 1
    with pytest.raises(UserError, match=r"pip install medloop\[sign\]"):
        registered(store, golden, tmp_path, key=keys[0])
    assert [version.number for version in store.versions()] == [1]
