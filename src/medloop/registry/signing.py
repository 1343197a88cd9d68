"""Signatures of bundles by OpenSSF model signing, with a key of one's own and without any network."""

from __future__ import annotations

from pathlib import Path

from medloop.errors import BrokenBundle, UserError


def sign_bundle(bundle: Path, signature: Path, *, key: Path) -> None:
    """Sign every file of the bundle with a private key on an elliptic curve."""
    _refuse_absent_library()
    from model_signing import signing

    try:
        config = signing.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_signer(private_key=_present(key)).sign(bundle, signature)
    except (ValueError, TypeError) as error:
        raise UserError(
            "signing.key must be a private key on an elliptic curve, in PEM, without a password",
            found=type(error).__name__,
            hint="make one: `openssl ecparam -name prime256v1 -genkey -noout -out key.pem`",
        ) from error


def check_signature(bundle: Path, signature: Path, *, key: Path) -> None:
    """Refuse a bundle that was not signed, as it is now, with the private key of this public one."""
    if not signature.is_file():
        raise BrokenBundle("a bundle must be signed to serve here", found="no signature", hint=_HINT)
    _refuse_absent_library()
    from model_signing import verifying

    try:
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=_present(key)).verify(bundle, signature)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BrokenBundle(
            "a bundle must bear the signature that the settings demand",
            found="a signature that does not fit",
            hint=_HINT,
        ) from error


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


_HINT = "sign it: set signing.key in config.yaml and register again; signing.verify_key is the public half"
