"""Exchanges the ID token of a CI job for a token of reportd, which ends after 15 minutes: CI needs no stored secret."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from prometheus_client import Counter

from server.auth import id_tokens
from server.auth.ci_rules import rule_for
from server.auth.issuers import Issuers
from server.auth.roles import Role
from server.auth.throttling import Attempt, admit_exchange
from server.auth.tokens import hash_of, new_cookie, new_token
from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import ClaimsRefused, IssuerAway, TooManyLogins, WrongIdToken
from server.ids import new_id
from server.observe.audit import Action, Actor, Subject, record
from server.trust import CiRule

EXCHANGES = Counter("reportd_exchanges", "ID tokens of CI jobs that were exchanged for tokens, by outcome", ["outcome"])
LIFETIME = timedelta(minutes=15)
_KEPT = 80  # characters of a subject in the name of its token, which has at most 100


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A new token: its secret, the project that it is for, and its end."""

    token: str
    project: str
    expires_at: datetime


class Client(Protocol):
    """The client of an exchange: its address, and the actors for audit entries."""

    @property
    def remote(self) -> str: ...
    def actor(self) -> Actor: ...
    def actor_as(self, kind: Literal["token"], id: UUID | None, name: str | None) -> Actor: ...


async def exchange(
    pool: Pool, issuers: Issuers, rules: list[CiRule], sent: str, project: str | None, client: Client
) -> Exchanged:
    """A token for the owner of an ID token. Raises WrongIdToken, ClaimsRefused, TooManyLogins, IssuerAway."""
    attempt = Attempt(None, client.remote)
    try:
        await attempt.admit(pool)
        rule, claims = await _accept(issuers, rules, sent, project)
        await attempt.forgive(pool)  # before _save, whose limit is that of the subject: others share the address
        made = await _save(pool, rule, claims, client)
    except TooManyLogins:
        EXCHANGES.labels("throttled").inc()
        raise
    except IssuerAway:
        EXCHANGES.labels("issuer_away").inc()
        await attempt.forgive(pool)  # the job is not to blame
        raise
    except (WrongIdToken, ClaimsRefused) as error:
        EXCHANGES.labels("failed").inc()
        await record(pool, Action.EXCHANGE_FAILED, client.actor(), Subject("token", None, None), reason=error.detail)
        raise
    EXCHANGES.labels("succeeded").inc()
    return made


async def _accept(
    issuers: Issuers, rules: list[CiRule], sent: str, project: str | None
) -> tuple[CiRule, dict[str, Any]]:
    """The rule by which an ID token is accepted, and its claims."""
    token = id_tokens.read(sent)
    of_issuer = [rule for rule in rules if rule.issuer == token.issuer]
    issuer = issuers.get(token.issuer)
    if issuer is None or not of_issuer:
        raise WrongIdToken(f"This server accepts no ID tokens of {id_tokens.shown(token.issuer)} ([[auth.ci]]).")
    provider = await issuer.provider(token.key_id, for_key=True)
    claims = id_tokens.verified(token, provider.keys, [rule.audience for rule in of_issuer])
    return rule_for(of_issuer, claims, project), claims


async def _save(pool: Pool, rule: CiRule, claims: dict[str, Any], client: Client) -> Exchanged:
    """One token for all jobs of a subject and project, with one more secret: so a job that exchanges again can repeat
    its requests with the same Idempotency-Keys, and the links that it made stay."""
    subject = hashlib.sha256("\0".join([rule.issuer, claims["sub"], rule.project]).encode()).digest()
    name = f"{claims['sub'][:_KEPT]} #{subject.hex()[:8]}"
    secret, ends = new_token(), datetime.now(UTC) + LIFETIME
    async with pool.transaction() as connection:
        await admit_exchange(connection, subject)
        project_id = await connection.fetchval(SQL.projects.ensure, new_id(0), rule.project)
        columns = new_id(0), name, hash_of(new_cookie()), Role.UPLOADER.word, project_id, subject, hash_of(secret), ends
        token_id = await connection.fetchval(SQL.tokens.exchange, *columns)
        await record(
            connection,
            Action.TOKEN_EXCHANGED,
            client.actor_as("token", token_id, name),
            Subject("token", token_id, name, project_id),
            issuer=rule.issuer,
            sub=claims["sub"],
            claims={name: id_tokens.plain(claims[name]) for name in rule.claims},
            expires_at=ends,
        )
    return Exchanged(secret, rule.project, ends)
