"""A small issuer of ID tokens on the loopback interface: discovery, keys, and the authorization code flow with PKCE
(OpenID Connect Core 1.0, 3.1; RFC 7636), as strict as a real one. Tests make it misbehave through its attributes."""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestServer
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from yarl import URL

CLIENT, SECRET = "reportd", "the client's s&cret"


@cache
def rsa_key(name: str) -> RSAKey:
    """A key pair with this name as its id. Cached, because making one takes a tenth of a second."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig", "alg": "RS256"})


def unsigned(claims: Mapping[str, Any]) -> str:
    """A token with `alg` none."""
    return _signed_input({"alg": "none", "typ": "JWT"}, claims) + "."


def hmac_signed(claims: Mapping[str, Any], public_key: RSAKey) -> str:
    """A token with `alg` HS256, whose secret is the public key as everybody can read it: the classic confusion."""
    text = _signed_input({"alg": "HS256", "kid": public_key.kid}, claims)
    return f"{text}.{_base64(hmac.digest(public_key.as_pem(private=False), text.encode(), 'sha256'))}"


def _signed_input(*parts: Mapping[str, Any]) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in parts)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Provider:
    """The issuer. `issuer` is its address."""

    def __init__(self) -> None:
        self.keys: list[RSAKey | ECKey] = [rsa_key("first")]
        self.asked: list[str] = []  # paths
        self.proxied: list[str] = []  # Proxy-Authorization of requests with an absolute target
        self.replies: dict[str, Callable[[], Any]] = {}  # by path: a reply in place of the right one, may be awaitable
        self.person: dict[str, Any] = {"sub": "248289761001", "preferred_username": "jane", "groups": ["qa"]}
        self.only_userinfo: set[str] = set()  # claims of the person that are not in the ID token
        self.change: Callable[[dict[str, Any]], Any] = lambda claims: None  # of an ID token before it is signed
        self.auth_methods: list[str] | None = None
        self.secret: str | None = SECRET
        self._codes: dict[str, dict[str, str]] = {}
        self._access: dict[str, dict[str, Any]] = {}

    def sign(self, claims: Mapping[str, Any], key: Any = None, alg: str = "RS256", **header: Any) -> str:
        """A token with these claims, signed with the newest key."""
        key = key or self.keys[-1]
        fields = {"alg": alg, "typ": "JWT", "kid": key.kid, **header}
        # By hand: the library refuses to make the tokens that the server must refuse.
        text = _signed_input({name: value for name, value in fields.items() if value is not None}, claims)
        return f"{text}.{_base64(JWSRegistry.algorithms[alg].sign(text.encode(), key))}"

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a job as GitHub Actions has them."""
        now = int(time.time())
        return {
            "iss": self.issuer,
            "aud": "reportd",
            "sub": "repo:acme/shop:ref:refs/heads/main",
            "repository": "acme/shop",
            "ref": "refs/heads/main",
            "run_id": "17",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
            **changed,
        }

    def rotate(self, name: str) -> None:
        """From now on there is only this key."""
        self.keys = [rsa_key(name)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if not request.raw_path.startswith("/"):
            self.proxied.append(request.headers.get("Proxy-Authorization", ""))
        if request.path in self.replies:
            reply = self.replies[request.path]()
            return await reply if asyncio.iscoroutine(reply) else reply
        pages = {
            "/.well-known/openid-configuration": self._discovery,
            "/keys": self._keys,
            "/authorize": self._authorize,
            "/token": self._token,
            "/userinfo": self._userinfo,
        }
        return await pages[request.path](request)

    def discovery(self) -> dict[str, Any]:
        methods = {"token_endpoint_auth_methods_supported": self.auth_methods} if self.auth_methods else {}
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?tenant=a",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            **methods,
        }

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(self.discovery())

    async def _keys(self, request: web.Request) -> web.Response:
        other = {"kty": "AKP", "alg": "ML-DSA-44", "kid": "unknown kind", "pub": "AA"}
        return web.json_response({"keys": [other, *(key.as_dict(private=False) for key in self.keys)]})

    async def _authorize(self, request: web.Request) -> web.Response:
        """Signs the person in at once, as a provider with an open session does."""
        query = dict(request.query)
        assert query["response_type"] == "code" and query["client_id"] == CLIENT and query["tenant"] == "a"
        assert "openid" in query["scope"].split() and query["code_challenge_method"] == "S256"
        assert len(query["state"]) >= 32 and len(query["nonce"]) >= 32 and len(query["code_challenge"]) == 43
        code = secrets.token_urlsafe()
        self._codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.issuer}
        return web.Response(status=302, headers={"Location": str(URL(query["redirect_uri"]).update_query(back))})

    async def _token(self, request: web.Request) -> web.Response:
        fields = dict(await request.post())
        if not self._is_client(request, fields):
            return web.json_response({"error": "invalid_client"}, status=401)
        asked = self._codes.pop(str(fields["code"]), None)
        verifier = str(fields.get("code_verifier", "")).encode()
        challenge = _base64(hashlib.sha256(verifier).digest())
        if (
            asked is None
            or fields["grant_type"] != "authorization_code"
            or fields["redirect_uri"] != asked["redirect_uri"]
            or not 43 <= len(verifier) <= 128
            or challenge != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now, access = int(time.time()), secrets.token_urlsafe()
        self._access[access] = self.person
        told = {name: value for name, value in self.person.items() if name not in self.only_userinfo}
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **told}
        token = self.change(claims) or self.sign(claims)
        return web.json_response({"access_token": access, "token_type": "Bearer", "id_token": token})

    def _is_client(self, request: web.Request, fields: Mapping[str, Any]) -> bool:
        if self.secret is None:
            return fields.get("client_id") == CLIENT and "Authorization" not in request.headers
        if "client_secret_basic" in (self.auth_methods or ["client_secret_basic"]):
            given = BasicAuth.decode(request.headers.get("Authorization", ""))
            return (URL(f"x:?a={given.password}").query["a"], given.login) == (self.secret, CLIENT)
        return (fields.get("client_id"), fields.get("client_secret")) == (CLIENT, self.secret)

    async def _userinfo(self, request: web.Request) -> web.Response:
        person = self._access.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        return web.json_response(person) if person else web.Response(status=401)


@asynccontextmanager
async def running():
    """A provider, until the block ends."""
    provider = Provider()
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", provider._serve)
    async with TestServer(app) as server:
        provider.issuer = f"http://127.0.0.1:{server.port}"
        yield provider
