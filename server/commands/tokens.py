"""`reportd token`: creates, lists, rotates and revokes tokens."""

import argparse
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from server.auth import access_tokens
from server.auth.roles import Role
from server.auth.tokens import new_token
from server.commands import epilogs, first_access
from server.commands.console import Refused, duration, expiry, in_transaction, minute, piped, short_name, with_database
from server.database.queries import SQL
from server.ids import new_id
from server.observe.audit import operator
from server.observe.log import visible

_NOT_FOUND = "No valid token has the id or name {}. See `reportd token list`."


def add_commands(commands: Any, command: Callable[..., Any], stored: Callable[[Any], Any]) -> None:
    """Adds `token` to the parsers of `reportd`."""
    text = "create, list, rotate and revoke API tokens"
    added = commands.add_parser("token", help=text, description=f"{text[0].upper()}{text[1:]}.")
    tokens = added.add_subparsers(required=True, metavar="COMMAND", title="commands")
    text = "create a token and print it; it cannot be shown again"
    one = stored(command(tokens, "create", _token_create, text, epilogs.CREATE_TOKEN))
    text = "name of the token in lists, logs and audit entries; unique among tokens that are not revoked"
    one.add_argument("--name", required=True, type=short_name, help=text)
    text = "limit the token to this project, which is created if missing (default: all projects)"
    one.add_argument("--project", type=short_name, help=text)
    # The default suits CI, where a token may leak from settings and logs: it must not be able to delete evidence.
    one.add_argument(
        "--role",
        choices=[role.word for role in Role],
        default=Role.UPLOADER.word,
        help="viewer: read; uploader: also create and change; admin: also delete (default: uploader)",
    )
    text = "form of lists in replies: a JSON object with paging, or a plain array (default: [api] collection_shape)"
    one.add_argument("--shape", choices=["object", "array"], help=text)
    text = "lifetime, like 12h, 90d, 52w (default: no expiry)"
    one.add_argument("--expires", type=duration, metavar="TIME", help=text)

    stored(command(tokens, "list", _token_list, "list all tokens, without their secrets"))
    text = "give a token a new secret and print it; it cannot be shown again"
    one = stored(command(tokens, "rotate", _token_rotate, text, epilogs.ROTATE_TOKEN))
    one.add_argument("token", metavar="ID_OR_NAME", help="see `reportd token list`")
    text = "how long the former secret stays valid; use 0h if it leaked (default: 24h)"
    one.add_argument("--overlap", type=_overlap, default="24h", metavar="TIME", help=text)
    text = "new lifetime, like 12h, 90d, 52w (default: the current expiry stays)"
    one.add_argument("--expires", type=duration, metavar="TIME", help=text)
    one = stored(command(tokens, "revoke", _token_revoke, "make a token invalid permanently"))
    one.add_argument("token", metavar="ID_OR_NAME", help="see `reportd token list`")


def _token_create(options: argparse.Namespace) -> None:
    token = new_token()

    async def work(connection: Any) -> None:
        project_id = None
        if options.project is not None:
            project_id = await connection.fetchval(SQL.projects.ensure, new_id(0), options.project)
        role, ends = Role.of(options.role), expiry(options.expires)
        await access_tokens.create(connection, options.name, token, role, project_id, ends, operator(), options.shape)

    in_transaction(options, work)
    print(token)


def _token_list(options: argparse.Namespace) -> None:
    rows = with_database(options, lambda connection: connection.fetch(SQL.tokens.all))
    with piped():
        times = "  ".join(f"{word:16}" for word in ("CREATED", "LAST USED", "EXPIRES"))
        print(f"{'ID':36}  {'NAME':20}  {'PROJECT':12}  {'ROLE':8}  {times}  STATE")
        for row in rows:
            times = "  ".join(f"{minute(row[key]):16}" for key in ("created_at", "last_used_at", "expires_at"))
            state = "revoked" if row["revoked_at"] else "valid"
            if state == "valid" and row["expires_at"] and row["expires_at"] < datetime.now(UTC):
                state = "expired"
            if state == "valid" and row["of_ci"]:
                state = f"of CI, last secret until {minute(row['former_until'])}" if row["former_until"] else "of CI"
            elif state == "valid" and row["former_until"]:
                state = f"valid, former secret until {minute(row['former_until'])}"
            print(
                row["id"],
                f"{visible(row['name']):20}",
                f"{visible(row['project'] or '(all)'):12}",
                f"{row['role']:8}",
                times,
                state,
                sep="  ",
            )


def _token_rotate(options: argparse.Namespace) -> None:
    async def work(connection: Any) -> access_tokens.Rotated:
        ends = expiry(options.expires)
        rotated = await access_tokens.rotate(connection, options.token, options.overlap, ends, operator())
        if rotated is None:
            raise Refused(_NOT_FOUND.format(options.token))
        return rotated

    token = in_transaction(options, work)
    until = f"until {minute(token.former_until)} UTC" if options.overlap else "for 5 seconds at most"
    print(f"rotated {visible(token.name)} ({token.id}); the former secret works {until}", file=sys.stderr)
    print(token.secret)
    if options.data is not None:
        first_access.replace_token(options.data, token.former_hash, token.secret)


def _token_revoke(options: argparse.Namespace) -> None:
    async def work(connection: Any) -> tuple[UUID, str]:
        revoked = await access_tokens.revoke(connection, options.token, operator())
        if revoked is None:
            raise Refused(_NOT_FOUND.format(options.token))
        return revoked

    token_id, name = in_transaction(options, work)
    print(f"revoked {visible(name)} ({token_id}); it stops working within 5 seconds")


def _overlap(text: str) -> timedelta:
    return timedelta() if re.fullmatch("0[hdw]", text) else duration(text)
