"""Signatures by OpenSSF model signing, with a local key and without network access.

`version.sig` covers everything in a version's folder, `bundle.sig` only its bundle, for `medloop serve --bundle`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.errors import BrokenBundle, UserError
from medloop.storage import read_json

if TYPE_CHECKING:
    from medloop.registry.version import Version

SIGNATURE = "bundle.sig"
VERSION_SIGNATURE = "version.sig"
DESCRIPTION = "version.json"


def sign_bundle(bundle: Path, signature: Path, *, key: Path) -> None:
    """Sign every file of the bundle with an elliptic curve private key."""
    _sign(bundle, signature, key=key)


def sign_version(folder: Path, *, key: Path) -> None:
    """Sign everything in a version's folder: its number, bundle, report, card and verdict."""
    _sign(folder, folder / VERSION_SIGNATURE, key=key)


def check_signature(bundle: Path, signature: Path, *, key: Path) -> None:
    """Raise BrokenBundle unless the bundle, as it is, was signed with the private key of this public key."""
    if not signature.is_file():
        raise BrokenBundle("The bundle is not signed, and signing.verify_key is set.", _SIGN_HINT)
    _check(bundle, signature, "The bundle", key=key)


def check_version_signature(version: Version, *, key: Path) -> None:
    """Raise BrokenBundle unless the version's folder, unchanged and with this number, was signed with this key."""
    signature = version.folder / VERSION_SIGNATURE
    if not signature.is_file():
        if (version.folder / SIGNATURE).is_file():
            raise BrokenBundle(
                f"Of version {version.number} only the bundle is signed, as by an older medloop.",
                "Set signing.key and run `medloop models migrate`.",
            )
        raise BrokenBundle(f"Version {version.number} is not signed, and signing.verify_key is set.", _SIGN_HINT)
    _check(version.folder, signature, f"Version {version.number}", key=key)
    if (number := read_json(version.folder / DESCRIPTION).get("number")) != version.number:
        raise BrokenBundle(
            f"Version {version.number} was signed as version {number}.",
            "Remove this copy; a version keeps its number.",
        )


def _sign(folder: Path, signature: Path, *, key: Path) -> None:
    _check_library()
    from model_signing import signing

    try:
        config = signing.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=_existing_key(key)).set_hashing_config(_hashing())
        config.sign(folder, signature)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"signing.key is not an elliptic curve private key in PEM without a password ({type(error).__name__}).",
            "Create one: `openssl ecparam -name prime256v1 -genkey -noout -out key.pem`.",
        ) from error


def _check(folder: Path, signature: Path, what: str, *, key: Path) -> None:
    _check_library()
    from model_signing import verifying

    try:
        config = verifying.Config().set_hashing_config(_hashing())  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=_existing_key(key)).verify(folder, signature)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BrokenBundle(
            f"{what} has a signature that does not match signing.verify_key, or was changed after it was signed.",
            _SIGN_HINT,
        ) from error


def _hashing() -> Any:
    """Return the configuration that hashes every file except the signature."""
    from model_signing import hashing

    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[VERSION_SIGNATURE], ignore_git_paths=False)


def _existing_key(key: Path) -> Path:
    if not key.is_file():
        raise UserError(f"There is no key file {key.name}.", "Check `signing` in config.yaml.")
    return key


def _check_library() -> None:
    try:
        import model_signing  # noqa: F401 - only whether it is installed
    except ImportError as error:
        raise UserError(
            "Signatures need OpenSSF's model-signing, which is not installed.",
            "Run `pip install 'medloop[sign]'`, or remove signing.key and signing.verify_key from config.yaml.",
        ) from error


_SIGN_HINT = "Sign it: set signing.key in config.yaml and register again; signing.verify_key is its public key."
