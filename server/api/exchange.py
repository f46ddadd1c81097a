"""Tokens for CI jobs that store no secret: in exchange for the ID token that GitHub Actions or GitLab gives them."""

from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.auth import exchange, id_tokens
from server.auth.roles import Role, Word
from server.http import reply
from server.http.reply import Response
from server.reports.words import Moment
from server.services import CALL, SERVICES

MAX_SIZE = 32 << 10  # bytes of a body: an exchange needs no token


class Exchange(Struct):
    token: Annotated[str, Meta(min_length=1, max_length=id_tokens.LONGEST)]
    project: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


@dataclass(slots=True)
class ExchangedToken:
    token: str
    project: str
    role: Word
    expires_at: Moment


async def create(request: web.Request, body: Exchange) -> Response:
    """Exchanges the ID token of a CI job for a token that may upload for 15 minutes.

    The server's `[[auth.ci]]` rules say which jobs get a token, and for which project; `project` chooses among several
    that match. 401 for a token that is expired, for another audience or otherwise not valid, 403 for one that no rule
    is for, 429 after too many, 503 when the issuer cannot be asked for its keys.
    """
    services, call = request.app[SERVICES], request[CALL]
    rules = services.config.auth.ci
    made = await exchange.exchange(services.pool, services.issuers, rules, body.token, body.project, call)
    return reply.created(ExchangedToken(made.token, made.project, Role.UPLOADER.word, made.expires_at))
