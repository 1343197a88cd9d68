"""Bearer tokens of an identity provider (OIDC); a claim of the token names the role."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from medloop.errors import UserError
from medloop.feedback import ROLES, Key, Role
from medloop.serve.http.refusals import Busy
from medloop.settings import OidcSettings

log = logging.getLogger("medloop.serve")

# Only signatures by key pairs: with a shared secret, anyone who can verify a token could also make one.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
REQUEST_SECONDS = 5
KEYS_SECONDS = 300
LEEWAY_SECONDS = 30
MAX_SUBJECT_LENGTH = 90
# How long a provider that did not answer is not asked again.
PAUSE_SECONDS = 5.0


class Tokens:
    """Verifies tokens with the public keys of the provider, which are fetched when needed and cached."""

    def __init__(self, settings: OidcSettings) -> None:
        try:
            import jwt
        except ModuleNotFoundError:
            raise UserError(
                "serve.oidc needs PyJWT, which is not installed.",
                "Run `pip install 'medloop[oidc]'`, or remove serve.oidc from config.yaml.",
            ) from None
        import httpx

        # Imported late, since this takes a while and few services have a provider.
        self._jwt, self._httpx, self._settings = jwt, httpx, settings
        self._keys: Any = None
        self._away_until = float("-inf")

    def find(self, token: str) -> Key | None:
        """Return the owner of a token and their role, or None if the token is not valid."""
        if time.monotonic() < self._away_until:
            raise Busy("The identity provider did not answer a moment ago.")
        try:
            claims = self._claims(token)
        except (self._jwt.PyJWKClientConnectionError, self._httpx.HTTPError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("the identity provider does not answer", extra={"kind": type(error).__name__})
            raise Busy("The identity provider does not answer.") from error
        except self._jwt.PyJWTError:
            return None
        role = highest_role(claims.get(self._settings.role_claim))
        if role is None:
            return None
        # Other claims can be changed by their owner or passed on to another person.
        subject = str(claims["sub"])
        if not subject or len(subject) > MAX_SUBJECT_LENGTH or not subject.isprintable():
            return None
        return Key(id=f"oidc:{subject}", name=subject, role=role, created="", expires=_expiry(claims["exp"]))

    def _claims(self, token: str) -> dict[str, Any]:
        # Raises for text that is not a token, so that the provider is not asked for it.
        self._jwt.get_unverified_header(token)
        if self._keys is None:
            self._keys = self._jwt.PyJWKClient(self._jwks_url(), lifespan=KEYS_SECONDS, timeout=REQUEST_SECONDS)
        claims: dict[str, Any] = self._jwt.decode(
            token,
            self._keys.get_signing_key_from_jwt(token).key,
            algorithms=ALGORITHMS,
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    def _jwks_url(self) -> str:
        if self._settings.jwks_url:
            return self._settings.jwks_url
        address = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        configuration = self._httpx.get(address, timeout=REQUEST_SECONDS)
        return str(configuration.raise_for_status().json()["jwks_uri"])


def _expiry(seconds: float) -> str:
    return datetime.fromtimestamp(seconds + LEEWAY_SECONDS, UTC).isoformat(timespec="microseconds")


def highest_role(claim: object) -> Role | None:
    """Return the highest role that a claim names, as a string or within a list of strings."""
    names = claim if isinstance(claim, list) else [claim]
    return next((role for role in reversed(ROLES) if role in names), None)
