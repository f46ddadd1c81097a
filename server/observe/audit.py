"""Writes the audit trail: who did what, when and from where, in an append-only table (`audit_entries`).

An entry is written in the same transaction as the action: a rollback removes both, and an action whose entry cannot be
written fails. server/reports/audit.py reads the entries.
"""

import os
import pwd
import re
import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from server.database.queries import SQL
from server.ids import new_id, time_of

_LONGEST_NAME = 500
_LONGEST_REMOTE = 255
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")


class Action(StrEnum):
    """The actions that are recorded. Creating a test case, step, log or artifact is not: these are too many, and their
    rows have a `created_at`."""

    SUITE_RUN_CREATED = "suite_run.created"
    SUITE_RUN_DELETED = "suite_run.deleted"
    ARTIFACT_DELETED = "artifact.deleted"
    SUITE_RUN_IMPORTED = "suite_run.imported"
    STEPS_PRUNED = "steps.pruned"
    PROJECT_CREATED = "project.created"
    PROJECT_CHANGED = "project.changed"
    TOKEN_CREATED = "token.created"  # noqa: S105 - no secret
    TOKEN_ROTATED = "token.rotated"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    TOKEN_EXCHANGED = "token.exchanged"  # noqa: S105
    EXCHANGE_FAILED = "exchange.failed"
    SESSION_STARTED = "session.started"
    USER_CREATED = "user.created"
    USER_ROLES_CHANGED = "user.roles_changed"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_PASSWORD_RESET = "user.password_reset"  # noqa: S105
    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_FAILED = "login.failed"
    LOGOUT = "logout"
    LINK_CREATED = "link.created"
    LINK_REVOKED = "link.revoked"
    AUDIT_DROPPED = "audit.dropped"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, and from where. Kinds: `token`, `person`, `command`, `anyone` (no token or login was required)."""

    kind: str
    id: UUID | None
    name: str | None
    remote: str | None  # the client's address; for a command, the host name
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What the action was done to. `project_id` None: it concerns the whole server."""

    kind: str
    id: UUID | None
    name: str | None
    project_id: UUID | None = None


async def record(where: Any, action: Action, actor: Actor, subject: Subject, **detail: object) -> None:
    """Add an entry. `where` is the connection whose transaction has the action, or the pool. With the pool, the entry
    is committed at once and stays even if the request fails. A name that is too long is truncated."""
    entry_id = new_id(0)
    await where.execute(
        SQL.audit.insert,
        entry_id,
        time_of(entry_id),
        action.value,
        actor.kind,
        actor.id,
        _fit(actor.name, _LONGEST_NAME),
        subject.project_id,
        subject.kind,
        subject.id,
        _fit(subject.name, _LONGEST_NAME),
        _fit(actor.remote, _LONGEST_REMOTE),
        actor.request_id,
        orjson.dumps(detail, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS).decode(),
    )


def operator() -> Actor:
    """The operator who runs this command: the login user (the kernel keeps it through sudo and runuser), else the
    process's user."""
    try:
        name = os.getlogin()
    except OSError:  # no login session: started by systemd or in a container
        name = _owner()
    return Actor("command", None, name, socket.gethostname(), None)


def _owner() -> str:
    """The user of this process. Not from the environment, which anybody may set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _fit(text: str | None, longest: int) -> str | None:
    """The text without characters that PostgreSQL refuses, truncated to `longest` characters."""
    if text is None:
        return None
    text = _BAD_TEXT.sub("\ufffd", text)
    return text if len(text) <= longest else text[: longest - 1] + "…"
