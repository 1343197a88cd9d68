"""Signatures by OpenSSF model signing, with a key of one's own and without any network.

`version.sig` covers everything in a version's folder; `bundle.sig` its bundle alone, for `medloop serve --bundle`.
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
    """Sign every file of the bundle with a private key on an elliptic curve."""
    _sign(bundle, signature, key=key)


def sign_version(folder: Path, *, key: Path) -> None:
    """Sign everything in a version's folder: its number, bundle, report, card and verdict."""
    _sign(folder, folder / VERSION_SIGNATURE, key=key)


def check_signature(bundle: Path, signature: Path, *, key: Path) -> None:
    """Refuse a bundle that was not signed, as it is now, with the private key of this public one."""
    if not signature.is_file():
        raise BrokenBundle("The bundle is not signed, and signing.verify_key is set.", found="none", hint=_HINT)
    _check(bundle, signature, "The bundle", key=key)


def check_version_signature(version: Version, *, key: Path) -> None:
    """Refuse a version whose folder was not signed, under this number and as it is now, with the key's private half."""
    signature = version.folder / VERSION_SIGNATURE
    if not signature.is_file():
        is_old = (version.folder / SIGNATURE).is_file()
        raise BrokenBundle(
            f"Version {version.number} is not signed as a whole, and signing.verify_key is set.",
            found=_OLD if is_old else "no signature",
            hint="set signing.key and run `medloop models migrate`" if is_old else _HINT,
        )
    _check(version.folder, signature, f"Version {version.number}", key=key)
    if (number := read_json(version.folder / DESCRIPTION).get("number")) != version.number:
        raise BrokenBundle(
            f"Version {version.number} was signed under another number.",
            found=f"version {number}",
            hint="remove the copy; a version keeps its number",
        )


def _sign(folder: Path, signature: Path, *, key: Path) -> None:
    _refuse_absent_library()
    from model_signing import signing

    try:
        config = signing.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=_present(key)).set_hashing_config(_hashing())
        config.sign(folder, signature)
    except (ValueError, TypeError) as error:
        raise UserError(
            "signing.key must be a private key on an elliptic curve, in PEM, without a password",
            found=type(error).__name__,
            hint="make one: `openssl ecparam -name prime256v1 -genkey -noout -out key.pem`",
        ) from error


def _check(folder: Path, signature: Path, what: str, *, key: Path) -> None:
    _refuse_absent_library()
    from model_signing import verifying

    try:
        config = verifying.Config().set_hashing_config(_hashing())  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=_present(key)).verify(folder, signature)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BrokenBundle(
            f"{what} does not bear the signature that signing.verify_key asks for.",
            found="a signature that does not fit",
            hint=_HINT,
        ) from error


def _hashing() -> Any:
    """Every file but the signature itself."""
    from model_signing import hashing

    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[VERSION_SIGNATURE], ignore_git_paths=False)


def _present(key: Path) -> Path:
    if not key.is_file():
        raise UserError("a key must be a PEM file", found=f"no {key.name}", hint="see signing in config.yaml")
    return key


def _refuse_absent_library() -> None:
    try:
        import model_signing  # noqa: F401 - whether it is there
    except ImportError as error:
        raise UserError(
            "signatures need OpenSSF's model-signing",
            found="not installed",
            hint="`pip install medloop[sign]`, or leave signing.key and signing.verify_key out of config.yaml",
        ) from error


_OLD = "a signature of its bundle alone, which `medloop models migrate` makes whole"
_HINT = "sign it: set signing.key in config.yaml and register again; signing.verify_key is the public half"
