"""ID tokens of OpenID Connect: their signature and their claims. The keys come from auth/issuers.py."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import (
    BadSignatureError,
    ClaimError,
    ExpiredTokenError,
    InvalidKeyIdError,
    JoseError,
    UnsupportedAlgorithmError,
)
from joserfc.jwk import JWKRegistry, Key, KeySet, RSAKey
from joserfc.jws import JWSRegistry

from server.errors import WrongIdToken

# No HS…: those would be checked with the public key of the issuer, which everybody has. No `none`.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
LONGEST = 16_384  # characters; those of GitHub have about 2,000
_LONGEST_SUBJECT = 1000
_LONGEST_CLAIM = 2000  # characters; longer ones match nothing
_LEEWAY = 60  # seconds that the clocks of the issuer and of this server may differ
_MIN_RSA_BITS = 2048

_registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)  # issuers have header fields of their own
_registry.max_header_length = 8192  # some send their certificates along, which are not looked at


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says about itself before its signature has been checked: where to look for its key."""

    text: str
    issuer: str
    key_id: str | None


def read(text: str) -> Unverified:
    """The issuer and the key that a token names. Raises WrongIdToken for what is no token, or not signed with a key
    pair."""
    try:
        parts = jws.extract_compact(text.encode(), registry=_registry)
        header, claims = parts.headers(), json.loads(parts.payload or b"")
    except (JoseError, ValueError, RecursionError):
        raise WrongIdToken("This is no ID token. Send the text that the issuer gave, three parts with dots.") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise WrongIdToken(
            f"The ID token is signed with {shown(algorithm)}. Use one that is signed with {ALGORITHMS[0]} or another "
            "key pair."
        )
    if not isinstance(claims, dict) or not isinstance(claims.get("iss"), str):
        raise WrongIdToken("The ID token does not name its issuer (iss).")
    return Unverified(text, claims["iss"], key_id if isinstance(key_id, str) else None)


def verified(token: Unverified, keys: KeySet, audiences: Sequence[str], now: int | None = None) -> dict[str, Any]:
    """The claims of a token that is for one of `audiences`. Raises WrongIdToken. `now`: Unix time, to test it."""
    try:
        claims = jwt.decode(token.text, keys, registry=_registry).claims
        jwt.JWTClaimsRegistry(
            now,
            _LEEWAY,
            iss={"essential": True, "value": token.issuer},
            aud={"essential": True, "values": list(audiences)},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        ).validate(claims)
    except InvalidKeyIdError:
        raise WrongIdToken(f"The ID token is signed with a key that {shown(token.issuer)} does not have.") from None
    except (BadSignatureError, UnsupportedAlgorithmError):
        raise WrongIdToken("The signature of the ID token is wrong.") from None
    except ExpiredTokenError:
        raise WrongIdToken("The ID token has expired. Get a new one and send it at once.") from None
    except ClaimError as error:
        raise WrongIdToken(_sentence(error, audiences)) from None
    except (JoseError, ValueError, TypeError, RecursionError):  # also for a key of another kind, and a wrong `crit`
        raise WrongIdToken("The signature of the ID token is wrong.") from None
    if not 1 <= len(claims["sub"]) <= _LONGEST_SUBJECT or not claims["sub"].isprintable():
        raise WrongIdToken(f"The subject (sub) of the ID token must be 1 to {_LONGEST_SUBJECT} printable characters.")
    return claims


def key_set(keys: Sequence[dict[str, Any]]) -> KeySet:
    """The public keys of a JWK set that can verify signatures. Others are left out, as RFC 7517, 5 asks for."""
    found: list[Key] = []
    for each in keys:
        try:
            key = JWKRegistry.import_key(each)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        weak = isinstance(key, RSAKey) and key.raw_value.key_size < _MIN_RSA_BITS
        if key.key_type != "oct" and not weak and each.get("use", "sig") == "sig":
            found.append(key)
    return KeySet(found)


def claim(claims: dict[str, Any], name: str) -> object:
    """A claim by its name, or by its path in objects: `realm_access.roles`. None if there is no such claim."""
    found: object = claims
    for part in [name] if name in claims else name.split("."):  # names may have dots: those of some providers are URLs
        found = found.get(part) if isinstance(found, dict) else None
    return found


def texts(value: object) -> Sequence[str]:
    """A claim as texts: `true` for true, as in TOML; nothing for null, objects, and lists in lists."""
    if isinstance(value, list):
        return [text for each in value if not isinstance(each, list) for text in texts(each)]
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, int):
        return [str(value)]
    return [value] if isinstance(value, str) and len(value) <= _LONGEST_CLAIM else []


def plain(value: object) -> str:
    """A claim as text that can be stored: without NUL and half characters."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(value)[:500])


def shown(value: object) -> str:
    """A value of an unverified token as it may be shown."""
    return ascii(value)[:200]


def _sentence(error: ClaimError, audiences: Sequence[str]) -> str:
    name = getattr(error, "claim", "")
    if name == "aud":
        return f"The ID token is for another audience (aud). Ask its issuer for one for {' or '.join(audiences)}."
    return f"The ID token is not valid: {error.description or name}."
