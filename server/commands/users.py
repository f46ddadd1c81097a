"""`reportd user`: adds, lists, changes and disables people who log in with a password."""

import argparse
import getpass
import secrets
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

from server.auth import people
from server.auth.passwords import hash_password, prepared, problem_of
from server.auth.roles import Role
from server.commands import epilogs, first_access
from server.commands.console import Refused, in_transaction, minute, piped, short_name, with_database
from server.database.queries import SQL
from server.observe.audit import operator
from server.observe.log import visible


def add_commands(commands: Any, command: Callable[..., Any], stored: Callable[[Any], Any]) -> None:
    """Adds `user` to the parsers of `reportd`."""
    text = "add, list, change and disable people who log in with a password"
    added = commands.add_parser("user", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parsers = added.add_subparsers(required=True, metavar="COMMAND", title="commands")
    roles = "viewer, uploader or admin, in all projects or in PROJECT, which is created if missing; may be repeated"
    generate = "generate a password and print it (default: ask for it, or read a line from standard input)"
    for name, run, text, epilog in (
        ("add", _user_add, "add a person who logs in with a name and a password", epilogs.ADD_USER),
        ("set-roles", _user_set_roles, "replace all roles of a person", epilogs.SET_ROLES),
        (
            "reset-password",
            _user_reset_password,
            "set a new password, and end all sessions and evidence links of a person",
            "",
        ),
        (
            "disable",
            _user_disable,
            "forbid a person to log in, and end all sessions and evidence links of the person",
            "",
        ),
        ("enable", _user_enable, "allow a disabled person to log in again", ""),
    ):
        one = stored(command(parsers, name, run, text, epilog))
        if name == "add":
            one.add_argument("name", metavar="NAME", type=_login_name, help="the name to log in with")
        else:
            one.add_argument("user", metavar="ID_OR_NAME", type=prepared, help="see `reportd user list`")
        if name in ("add", "set-roles"):
            one.add_argument("--role", action=_Grants, type=_grant, required=True, metavar="[PROJECT=]ROLE", help=roles)
        if name in ("add", "reset-password"):
            one.add_argument("--generate", action="store_true", help=generate)
    stored(command(parsers, "list", _user_list, "list all people and their roles"))


def _user_add(options: argparse.Namespace) -> None:
    password, printed = _new_password(options, options.name)
    hashed = hash_password(password)

    async def work(connection: Any) -> UUID:
        return await people.create(connection, options.name, hashed, options.role, operator())

    user_id = in_transaction(options, work)
    print(printed or f"added {options.name} ({user_id})")


def _user_list(options: argparse.Namespace) -> None:
    rows = with_database(options, lambda connection: connection.fetch(SQL.users.all))
    with piped():
        print(f"{'ID':36}  {'NAME':20}  {'CREATED':16}  {'LAST SEEN':16}  {'STATE':8}  ROLES")
        for row in rows:
            times = "  ".join(f"{minute(row[key]):16}" for key in ("created_at", "last_seen_at"))
            state = "disabled" if row["disabled_at"] else "SSO" if row["by_provider"] else "valid"
            roles = visible(", ".join(row["roles"] or []))
            print(row["id"], f"{visible(row['name']):20}", times, f"{state:8}", roles, sep="  ")


def _user_set_roles(options: argparse.Namespace) -> None:
    change = partial(people.set_roles, roles=options.role)
    _change_user(options, change, "changed the roles of {}; this takes effect within 5 seconds")


def _user_reset_password(options: argparse.Namespace) -> None:
    password, printed = _new_password(options, options.user)
    change = partial(people.set_password, password_hash=hash_password(password))
    name = _change_user(options, change, "changed the password of {}; sessions end within 5 seconds")
    if options.data is not None:
        first_access.forget_password(options.data, name)
    if printed:
        print(printed)


def _user_disable(options: argparse.Namespace) -> None:
    _change_user(options, people.disable, "disabled {}; sessions end within 5 seconds")


def _user_enable(options: argparse.Namespace) -> None:
    _change_user(options, people.enable, "enabled {}")


def _change_user(options: argparse.Namespace, change: Callable[..., Awaitable[None]], done: str) -> str:
    """Change a person, and return the person's name."""

    async def work(connection: Any) -> people.Person:
        person = await people.find(connection, options.user)
        if person is None:
            raise Refused(f"No person has the id or name {options.user}. See `reportd user list`.")
        await change(connection, person, actor=operator())
        return person

    person = in_transaction(options, work)
    print(done.format(f"{visible(person.name)} ({person.id})"), file=sys.stderr)
    return person.name


def _new_password(options: argparse.Namespace, name: str) -> tuple[str, str]:
    """A generated password and the text to print, or one from the terminal or a pipe and an empty text."""
    if options.generate:
        made = secrets.token_urlsafe(18)
        return made, made
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Password again: ") != password:
            raise Refused("The two passwords differ. Run the command again.")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if problem := problem_of(password, name):
        raise Refused(problem)
    return password, ""


def _login_name(text: str) -> str:
    return short_name(prepared(text))


def _grant(text: str) -> tuple[str | None, Role]:
    project, equals, role = text.rpartition("=")
    try:
        return short_name(project) if equals else None, Role.of(role)
    except KeyError:
        words = ", ".join(role.word for role in Role)
        raise argparse.ArgumentTypeError(f"must be ROLE or PROJECT=ROLE, where ROLE is one of {words}") from None


class _Grants(argparse.Action):
    """Collects every `--role`; each project may occur once."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        given = getattr(namespace, self.dest) or []
        if value[0] in [project for project, _ in given]:
            parser.error("argument --role: give only one role per project, and only one for all projects")
        setattr(namespace, self.dest, [*given, value])
