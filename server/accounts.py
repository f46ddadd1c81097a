"""`reportd token` and `reportd user`: who may call, and the commands that say so."""

import argparse
import getpass
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from server import up
from server.audit import Action, Subject, note, operator
from server.auth.passwords import hash_password, prepared, problem_of
from server.auth.roles import Role
from server.auth.tokens import hash_of, new_token
from server.console import Refused, duration, end_of, in_transaction, minute, piped, with_database
from server.ids import new_id
from server.log import visible


def add_commands(commands: Any, command: Callable[..., Any], stored: Callable[[Any], Any]) -> None:
    """Adds both to the parsers of `reportd`."""
    tokens = commands.add_parser("token", help="make, list, rotate and revoke tokens").add_subparsers(required=True)
    one = stored(command(tokens, "create", _token_create, "make a token; it is shown once"))
    one.add_argument("--name", required=True, type=_name)
    one.add_argument("--project", type=_name, help="only this project, made if need be; default: all projects")
    # What is made without a thought is made for CI, and lies in its settings and logs: one that leaks from there must
    # not be able to delete the evidence. Whoever lacks a role is told which one.
    one.add_argument(
        "--role",
        choices=[role.word for role in Role],
        default=Role.UPLOADER.word,
        help="viewer reads; uploader also sends and changes; admin also deletes; default: uploader",
    )
    one.add_argument("--shape", choices=["object", "array"], help="how its lists look (array: S0's clients)")
    one.add_argument("--expires", type=duration, metavar="90d", help="12h, 90d, 52w; default: never")
    stored(command(tokens, "list", _token_list, "list tokens"))
    one = stored(command(tokens, "rotate", _token_rotate, "give a token a new secret; it is shown once"))
    one.add_argument("token", metavar="ID_OR_NAME")
    overlap = "how long the former secret goes on working, 0h if it leaked; default: 24h"
    one.add_argument("--overlap", type=_overlap, default="24h", metavar="24h", help=overlap)
    one.add_argument("--expires", type=duration, metavar="90d", help="a new end; default: the one it has")
    one = stored(command(tokens, "revoke", _token_revoke, "make a token invalid"))
    one.add_argument("token", metavar="ID_OR_NAME")

    people = commands.add_parser("user", help="add, list, change and disable people").add_subparsers(required=True)
    roles = "ROLE in every project, or PROJECT=ROLE, the project made if need be; may be repeated"
    generate = "make a password and print it; default: ask for it, or read a line of standard input"
    for name, run, text in (
        ("add", _user_add, "add a person, who logs in with a password"),
        ("set-roles", _user_set_roles, "give a person other roles, instead of all that there were"),
        ("reset-password", _user_reset_password, "give a person another password; ends all sessions"),
        ("disable", _user_disable, "let a person log in no more; ends all sessions"),
        ("enable", _user_enable, "let a disabled person log in again"),
    ):
        one = stored(command(people, name, run, text))
        who = ("name", "NAME", _persons_name) if name == "add" else ("user", "ID_OR_NAME", prepared)
        one.add_argument(who[0], metavar=who[1], type=who[2])
        if name in ("add", "set-roles"):
            one.add_argument("--role", action=_Grants, type=_grant, required=True, metavar="[PROJECT=]ROLE", help=roles)
        if name in ("add", "reset-password"):
            one.add_argument("--generate", action="store_true", help=generate)
    stored(command(people, "list", _user_list, "list people"))


def _token_create(options: argparse.Namespace) -> None:
    token, token_id, end = new_token(), new_id(0), end_of(options.expires)

    async def work(connection: Any, sql: Any) -> None:
        project_id = None
        if options.project is not None:
            project_id = await connection.fetchval(sql.projects.ensure, new_id(0), options.project)
        columns = [token_id, options.name, hash_of(token), options.role, project_id, options.shape, end]
        try:
            await connection.execute(sql.tokens.create, *columns)
        except asyncpg.UniqueViolationError:
            raise Refused(f"There is a token named {options.name} already; revoke it or choose another.") from None
        subject = Subject("token", token_id, options.name, project_id)
        await note(connection, sql, Action.TOKEN_CREATED, operator(), subject, role=options.role, expires_at=end)

    in_transaction(options, work)
    print(token)


def _token_list(options: argparse.Namespace) -> None:
    rows = with_database(options, lambda connection, sql: connection.fetch(sql.tokens.all))
    with piped():
        times = "  ".join(f"{word:16}" for word in ("CREATED", "LAST USED", "EXPIRES"))
        print(f"{'ID':36}  {'NAME':20}  {'PROJECT':12}  {'ROLE':8}  {times}  STATE")
        for row in rows:
            times = "  ".join(f"{minute(row[key]):16}" for key in ("created_at", "last_used_at", "expires_at"))
            state = "revoked" if row["revoked_at"] else "valid"
            if state == "valid" and row["expires_at"] and row["expires_at"] < datetime.now(UTC):
                state = "expired"
            if state == "valid" and row["former_until"]:
                state = f"valid, its former secret until {minute(row['former_until'])}"
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
    token = new_token()

    async def work(connection: Any, sql: Any) -> Any:
        row = await connection.fetchrow(
            sql.tokens.rotate, options.token, hash_of(token), options.overlap, end_of(options.expires)
        )
        if row is None:
            raise Refused(f"There is no valid token with the id or name {options.token}.")
        subject = Subject("token", row["id"], row["name"], row["project_id"])
        until = row["former_until"]
        await note(connection, sql, Action.TOKEN_ROTATED, operator(), subject, former_secret_until=until)
        return row

    row = in_transaction(options, work)
    until = f"until {minute(row['former_until'])} UTC" if options.overlap else "for 5 seconds at most"
    print(f"rotated {visible(row['name'])} ({row['id']}); the former secret works {until}", file=sys.stderr)
    print(token)
    if options.data is not None:
        up.replace_token(options.data, row["former_hash"], token)


def _token_revoke(options: argparse.Namespace) -> None:
    async def work(connection: Any, sql: Any) -> Any:
        row = await connection.fetchrow(sql.tokens.revoke, options.token)
        if row is None:
            raise Refused(f"There is no valid token with the id or name {options.token}.")
        subject = Subject("token", row["id"], row["name"], row["project_id"])
        await note(connection, sql, Action.TOKEN_REVOKED, operator(), subject)
        return row

    row = in_transaction(options, work)
    print(f"revoked {visible(row['name'])} ({row['id']}); it stops working within 5 seconds")


def _user_add(options: argparse.Namespace) -> None:
    password, printed = _new_password(options, options.name)
    hashed, user_id = hash_password(password), new_id(0)

    async def work(connection: Any, sql: Any) -> None:
        try:
            await connection.execute(sql.users.create, user_id, options.name, hashed)
        except asyncpg.UniqueViolationError:
            raise Refused(f"There is a person named {options.name} already.") from None
        await _give_roles(connection, sql, user_id, options.role)
        subject = Subject("person", user_id, options.name)
        await note(connection, sql, Action.USER_CREATED, operator(), subject, roles=_words(options.role))

    in_transaction(options, work)
    print(printed or f"added {options.name} ({user_id})")


def _user_list(options: argparse.Namespace) -> None:
    rows = with_database(options, lambda connection, sql: connection.fetch(sql.users.all))
    with piped():
        print(f"{'ID':36}  {'NAME':20}  {'CREATED':16}  {'LAST SEEN':16}  {'STATE':8}  ROLES")
        for row in rows:
            times = "  ".join(f"{minute(row[key]):16}" for key in ("created_at", "last_seen_at"))
            state = "disabled" if row["disabled_at"] else "valid"
            roles = visible(", ".join(row["roles"] or []))
            print(row["id"], f"{visible(row['name']):20}", times, f"{state:8}", roles, sep="  ")


def _user_set_roles(options: argparse.Namespace) -> None:
    async def change(connection: Any, sql: Any, user_id: UUID) -> None:
        await connection.execute(sql.users.forget_roles, user_id)
        await _give_roles(connection, sql, user_id, options.role)

    done = "changed the roles of {}; this takes effect within 5 seconds"
    _change_user(options, change, Action.USER_ROLES_CHANGED, done, roles=_words(options.role))


def _user_reset_password(options: argparse.Namespace) -> None:
    password, printed = _new_password(options, options.user)
    hashed = hash_password(password)

    async def change(connection: Any, sql: Any, user_id: UUID) -> None:
        await connection.execute(sql.users.set_password, user_id, hashed)
        await connection.execute(sql.sessions.delete_for_user, user_id)

    done = "changed the password of {}; sessions end within 5 seconds"
    _change_user(options, change, Action.USER_PASSWORD_RESET, done)
    if printed:
        print(printed)


def _user_disable(options: argparse.Namespace) -> None:
    async def change(connection: Any, sql: Any, user_id: UUID) -> None:
        await connection.execute(sql.users.disable, user_id)
        await connection.execute(sql.sessions.delete_for_user, user_id)

    _change_user(options, change, Action.USER_DISABLED, "disabled {}; sessions end within 5 seconds")


def _user_enable(options: argparse.Namespace) -> None:
    async def change(connection: Any, sql: Any, user_id: UUID) -> None:
        await connection.execute(sql.users.enable, user_id)

    _change_user(options, change, Action.USER_ENABLED, "enabled {}")


def _change_user(
    options: argparse.Namespace,
    change: Callable[[Any, Any, UUID], Awaitable[None]],
    action: Action,
    done: str,
    **detail: object,
) -> None:
    async def work(connection: Any, sql: Any) -> Any:
        user = await connection.fetchrow(sql.users.find, options.user)
        if user is None:
            raise Refused(f"There is no person with the id or name {options.user}.")
        await change(connection, sql, user["id"])
        await note(connection, sql, action, operator(), Subject("person", user["id"], user["name"]), **detail)
        return user

    user = in_transaction(options, work)
    print(done.format(f"{visible(user['name'])} ({user['id']})"), file=sys.stderr)


def _words(roles: Sequence[tuple[str | None, Role]]) -> list[str]:
    return [f"{project}={role.word}" if project else role.word for project, role in roles]


async def _give_roles(connection: Any, sql: Any, user_id: UUID, roles: Sequence[tuple[str | None, Role]]) -> None:
    for project, role in roles:
        project_id = None
        if project is not None:
            project_id = await connection.fetchval(sql.projects.ensure, new_id(0), project)
        await connection.execute(sql.users.add_role, user_id, project_id, role.word)


def _new_password(options: argparse.Namespace, name: str) -> tuple[str, str]:
    """The password, and what is to be printed of it: it is asked for, read from a pipe, or made."""
    if options.generate:
        made = secrets.token_urlsafe(18)
        return made, made
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("The same again: ") != password:
            raise Refused("The two are not the same.")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if problem := problem_of(password, name):
        raise Refused(problem)
    return password, ""


def _overlap(text: str) -> timedelta:
    return timedelta() if re.fullmatch("0[hdw]", text) else duration(text)


def _name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("must be 1 to 100 printable characters")
    return text


def _persons_name(text: str) -> str:
    return _name(prepared(text))


def _grant(text: str) -> tuple[str | None, Role]:
    project, equals, role = text.rpartition("=")
    try:
        return _name(project) if equals else None, Role.of(role)
    except KeyError:
        words = ", ".join(role.word for role in Role)
        raise argparse.ArgumentTypeError(f"must be ROLE or PROJECT=ROLE, where ROLE is one of {words}") from None


class _Grants(argparse.Action):
    """Collects `--role`; one project has one."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        given = getattr(namespace, self.dest) or []
        if value[0] in [project for project, _ in given]:
            parser.error("--role: only one for each project, and only one for all")
        setattr(namespace, self.dest, [*given, value])
