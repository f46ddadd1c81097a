"""Single sign-on by OpenID Connect: authorization code flow with PKCE, and the account of who comes back.

Nothing is stored while somebody is at the provider: state, nonce and code verifier are made of one secret, which the
browser keeps in a cookie.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from msgspec import Struct

from server.auth import id_tokens
from server.auth.accounts import LOGINS, Client, NewSession
from server.auth.issuers import Issuer, Issuers, Provider
from server.auth.single_sign_on_accounts import start
from server.auth.throttling import Attempt
from server.database.pool import Pool
from server.errors import ClaimsRefused, IssuerAway, SignInFailed, TooManyLogins, WrongIdToken
from server.observe.audit import Action, Subject, record
from server.trust import Oidc

_NOT_ACCEPTED = "{} did not accept this sign-in. Sign in again."


class _Tokens(Struct):
    """A reply of the token endpoint (OpenID Connect Core 1.0, 3.1.3.3)."""

    id_token: str
    access_token: str = ""


class _Refusal(Struct):
    error: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in on its way: the secret of its browser, and where the provider sends the browser back to."""

    secret: str
    redirect_uri: str

    @property
    def state(self) -> str:
        return self._made("state")

    @property
    def nonce(self) -> str:
        return self._made("nonce")

    @property
    def verifier(self) -> str:
        return self._made("verifier")

    @property
    def challenge(self) -> str:
        return _base64(hashlib.sha256(self.verifier.encode()).digest())

    def _made(self, purpose: str) -> str:
        # Each is shown to somebody else: none may tell another one, nor the secret.
        return _base64(hmac.digest(self.secret.encode(), purpose.encode(), "sha256"))


async def address(issuers: Issuers, oidc: Oidc, flow: Flow) -> str:
    """The address of the provider at which a person signs in. Raises IssuerAway."""
    issuer = _issuer(issuers, oidc)
    about = (await issuer.provider()).about
    if not about.authorization_endpoint or not about.token_endpoint:
        raise issuer.away("its discovery document has no endpoints to sign in at")
    query = {
        "response_type": "code",
        "client_id": oidc.client_id,
        "redirect_uri": flow.redirect_uri,
        "scope": " ".join(oidc.scopes),
        "state": flow.state,
        "nonce": flow.nonce,
        "code_challenge": flow.challenge,
        "code_challenge_method": "S256",
    }
    return about.authorization_endpoint + ("&" if "?" in about.authorization_endpoint else "?") + urlencode(query)


async def sign_in(
    pool: Pool, issuers: Issuers, oidc: Oidc, flow: Flow, code: str, session: NewSession, client: Client
) -> None:
    """Start the session of the person for whom the provider gave this code.

    Raises SignInFailed, WrongIdToken, ClaimsRefused, TooManyLogins, IssuerAway.
    """
    attempt = Attempt(None, client.remote)
    try:
        await attempt.admit(pool)
        claims = await _claims(issuers, oidc, flow, code)
        await start(pool, oidc, claims, session, client)
    except TooManyLogins:
        LOGINS.labels("throttled").inc()
        raise
    except (SignInFailed, WrongIdToken, ClaimsRefused) as error:
        LOGINS.labels("failed").inc()
        subject = Subject("person", None, None)
        await record(pool, Action.LOGIN_FAILED, client.actor(), subject, issuer=oidc.issuer, reason=error.detail)
        raise
    except IssuerAway:
        await attempt.forgive(pool)  # the person is not to blame
        raise
    LOGINS.labels("succeeded").inc()
    await attempt.forgive(pool)


async def _claims(issuers: Issuers, oidc: Oidc, flow: Flow, code: str) -> dict[str, Any]:
    """The verified claims about the person, with those of the userinfo endpoint if the ID token lacks the roles."""
    issuer = _issuer(issuers, oidc)
    provider = await issuer.provider()
    tokens = await _redeem(issuers, issuer, provider, oidc, flow, code)
    token = id_tokens.read(tokens.id_token)
    if token.issuer != oidc.issuer:
        raise WrongIdToken(f"The ID token is of another issuer, {id_tokens.shown(token.issuer)}.")
    provider = await issuer.provider(token.key_id, for_key=True)
    claims = id_tokens.verified(token, provider.keys, [oidc.client_id])
    if not hmac.compare_digest(str(claims.get("nonce")).encode("utf-8", "replace"), flow.nonce.encode()):
        raise WrongIdToken("The ID token belongs to another sign-in (nonce). Sign in again.")
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") != oidc.client_id:
        raise WrongIdToken("The ID token was given to another client (azp).")
    if id_tokens.claim(claims, oidc.roles_claim) is None and provider.about.userinfo_endpoint and tokens.access_token:
        claims = {**await _userinfo(issuers, issuer, provider, tokens.access_token, claims["sub"]), **claims}
    return claims


async def _redeem(issuers: Issuers, issuer: Issuer, provider: Provider, oidc: Oidc, flow: Flow, code: str) -> _Tokens:
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": flow.redirect_uri,
        "code_verifier": flow.verifier,
    }
    headers: dict[str, str] = {}
    if oidc.client_secret and "client_secret_basic" in provider.about.token_endpoint_auth_methods_supported:
        pair = f"{quote_plus(oidc.client_id)}:{quote_plus(oidc.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        fields["client_id"] = oidc.client_id
        if oidc.client_secret:
            fields["client_secret"] = oidc.client_secret
    status, body = await issuers.fetch(provider.about.token_endpoint, fields, headers)
    if 400 <= status < 500:
        why = issuer.decode(body, _Refusal).error if body.startswith(b"{") else ""
        issuer.log(f"refused a code: status {status}, error {id_tokens.shown(why)}")
        raise SignInFailed(_NOT_ACCEPTED.format(oidc.issuer))
    if status != 200:
        raise issuer.away(f"its token endpoint replied {status}")
    return issuer.decode(body, _Tokens)


async def _userinfo(
    issuers: Issuers, issuer: Issuer, provider: Provider, access_token: str, sub: str
) -> Mapping[str, Any]:
    status, body = await issuers.fetch(
        provider.about.userinfo_endpoint, None, {"Authorization": f"Bearer {access_token}"}
    )
    if status != 200:
        raise issuer.away(f"its userinfo endpoint replied {status}")
    found = issuer.decode(body, dict[str, Any])
    if found.get("sub") != sub:  # OpenID Connect Core 1.0, 5.3.2: it may be about somebody else
        raise SignInFailed(_NOT_ACCEPTED.format(issuer.address))
    return found


def _issuer(issuers: Issuers, oidc: Oidc) -> Issuer:
    found = issuers.get(oidc.issuer)
    if found is None:
        raise LookupError("single sign-on is off")
    return found


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
