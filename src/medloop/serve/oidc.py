"""Bearer tokens of an identity provider: whoever it vouches for has the role that its claim names."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from medloop.errors import UserError
from medloop.feedback import ROLES, Key, Role
from medloop.serve.refusals import Busy
from medloop.settings import OidcSettings

log = logging.getLogger("medloop.serve")

# Signed with a key pair alone: with a shared secret whoever can check a token could also make one.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
SECONDS = 5
KEYS_SECONDS = 300
LEEWAY_SECONDS = 30
MAX_SUBJECT = 90
# A provider that did not answer is left alone for so long.
AWAY_SECONDS = 5.0


class Tokens:
    """Checks tokens against the provider's public keys, fetched when first needed and kept for a while."""

    def __init__(self, settings: OidcSettings) -> None:
        try:
            import jwt
        except ModuleNotFoundError:
            raise UserError(
                "tokens of an identity provider need PyJWT",
                found="it is not installed",
                hint="pip install 'medloop[oidc]', or remove serve.oidc from the settings",
            ) from None
        import httpx

        # Imported here, for they take a while and few services have a provider.
        self._jwt, self._httpx, self._settings = jwt, httpx, settings
        self._keys: Any = None
        self._away_until = float("-inf")

    def find(self, token: str) -> Key | None:
        """Whom the token stands for, or nobody."""
        if time.monotonic() < self._away_until:
            raise Busy("the identity provider did not answer a moment ago")
        try:
            claims = self._claims(token)
        except (self._jwt.PyJWKClientConnectionError, self._httpx.HTTPError) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            log.warning("the identity provider does not answer", extra={"kind": type(error).__name__})
            raise Busy("the identity provider does not answer") from error
        except self._jwt.PyJWTError:
            return None
        role = highest_role(claims.get(self._settings.role_claim))
        if role is None:
            return None
        # Any other claim can be changed by the person or given to another one.
        subject = str(claims["sub"])
        if not subject or len(subject) > MAX_SUBJECT or not subject.isprintable():
            return None
        return Key(id=f"oidc:{subject}", name=subject, role=role, created="", expires=_moment(claims["exp"]))

    def _claims(self, token: str) -> dict[str, Any]:
        # A text that is no token is no reason to ask the provider.
        self._jwt.get_unverified_header(token)
        if self._keys is None:
            self._keys = self._jwt.PyJWKClient(self._address(), lifespan=KEYS_SECONDS, timeout=SECONDS)
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

    def _address(self) -> str:
        if self._settings.jwks_url:
            return self._settings.jwks_url
        place = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        described = self._httpx.get(place, timeout=SECONDS)
        return str(described.raise_for_status().json()["jwks_uri"])


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds + LEEWAY_SECONDS, UTC).isoformat(timespec="microseconds")


def highest_role(claim: object) -> Role | None:
    """The highest role that a claim names, as a word or among a list of words."""
    named = claim if isinstance(claim, list) else [claim]
    return next((role for role in reversed(ROLES) if role in named), None)
