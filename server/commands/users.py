"""`reportd user`: adds, lists, changes and disables people."""

import argparse
import getpass
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from server.auth.passwords import hash_password, prepared, problem_of
from server.auth.roles import Role
from server.commands.console import Refused, in_transaction, minute, piped, short_name, with_database
from server.database.queries import SQL
from server.ids import new_id
from server.observe.audit import Action, Subject, operator, record
from server.observe.log import visible


def add_commands(commands: Any, command: Callable[..., Any], stored: Callable[[Any], Any]) -> None:
    """Adds `user` to the parsers of `reportd`."""
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


def _user_add(options: argparse.Namespace) -> None:
    password, printed = _new_password(options, options.name)
    hashed, user_id = hash_password(password), new_id(0)

    async def work(connection: Any) -> None:
        try:
            await connection.execute(SQL.users.create, user_id, options.name, hashed)
        except asyncpg.UniqueViolationError:
            raise Refused(f"There is a person named {options.name} already.") from None
        await _give_roles(connection, user_id, options.role)
        subject = Subject("person", user_id, options.name)
        await record(connection, Action.USER_CREATED, operator(), subject, roles=_words(options.role))

    in_transaction(options, work)
    print(printed or f"added {options.name} ({user_id})")


def _user_list(options: argparse.Namespace) -> None:
    rows = with_database(options, lambda connection: connection.fetch(SQL.users.all))
    with piped():
        print(f"{'ID':36}  {'NAME':20}  {'CREATED':16}  {'LAST SEEN':16}  {'STATE':8}  ROLES")
        for row in rows:
            times = "  ".join(f"{minute(row[key]):16}" for key in ("created_at", "last_seen_at"))
            state = "disabled" if row["disabled_at"] else "valid"
            roles = visible(", ".join(row["roles"] or []))
            print(row["id"], f"{visible(row['name']):20}", times, f"{state:8}", roles, sep="  ")


def _user_set_roles(options: argparse.Namespace) -> None:
    async def change(connection: Any, user_id: UUID) -> None:
        await connection.execute(SQL.users.forget_roles, user_id)
        await _give_roles(connection, user_id, options.role)

    done = "changed the roles of {}; this takes effect within 5 seconds"
    _change_user(options, change, Action.USER_ROLES_CHANGED, done, roles=_words(options.role))


def _user_reset_password(options: argparse.Namespace) -> None:
    password, printed = _new_password(options, options.user)
    hashed = hash_password(password)

    async def change(connection: Any, user_id: UUID) -> None:
        await connection.execute(SQL.users.set_password, user_id, hashed)
        await connection.execute(SQL.sessions.delete_for_user, user_id)

    done = "changed the password of {}; sessions end within 5 seconds"
    _change_user(options, change, Action.USER_PASSWORD_RESET, done)
    if printed:
        print(printed)


def _user_disable(options: argparse.Namespace) -> None:
    async def change(connection: Any, user_id: UUID) -> None:
        await connection.execute(SQL.users.disable, user_id)
        await connection.execute(SQL.sessions.delete_for_user, user_id)

    _change_user(options, change, Action.USER_DISABLED, "disabled {}; sessions end within 5 seconds")


def _user_enable(options: argparse.Namespace) -> None:
    async def change(connection: Any, user_id: UUID) -> None:
        await connection.execute(SQL.users.enable, user_id)

    _change_user(options, change, Action.USER_ENABLED, "enabled {}")


def _change_user(
    options: argparse.Namespace,
    change: Callable[[Any, UUID], Awaitable[None]],
    action: Action,
    done: str,
    **detail: object,
) -> None:
    async def work(connection: Any) -> Any:
        user = await connection.fetchrow(SQL.users.find, options.user)
        if user is None:
            raise Refused(f"There is no person with the id or name {options.user}.")
        await change(connection, user["id"])
        await record(connection, action, operator(), Subject("person", user["id"], user["name"]), **detail)
        return user

    user = in_transaction(options, work)
    print(done.format(f"{visible(user['name'])} ({user['id']})"), file=sys.stderr)


def _words(roles: Sequence[tuple[str | None, Role]]) -> list[str]:
    return [f"{project}={role.word}" if project else role.word for project, role in roles]


async def _give_roles(connection: Any, user_id: UUID, roles: Sequence[tuple[str | None, Role]]) -> None:
    for project, role in roles:
        project_id = None
        if project is not None:
            project_id = await connection.fetchval(SQL.projects.ensure, new_id(0), project)
        await connection.execute(SQL.users.add_role, user_id, project_id, role.word)


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


def _persons_name(text: str) -> str:
    return short_name(prepared(text))


def _grant(text: str) -> tuple[str | None, Role]:
    project, equals, role = text.rpartition("=")
    try:
        return short_name(project) if equals else None, Role.of(role)
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
