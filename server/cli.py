"""The `reportd` command."""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import psycopg

from server import __version__, config, embedded, log, migrate, serve, systemd, trail, up
from server.audit import Action, Subject, note, operator
from server.auth.roles import Role
from server.auth.tokens import hash_of, new_token
from server.check import compare, findings, means
from server.config import ConfigError
from server.db import load_sql
from server.ids import new_id
from server.log import visible

T = TypeVar("T")


class Refused(Exception):
    """What was asked for cannot be done; the text says why."""


_EXPECTED = (Refused, ConfigError, embedded.EmbeddedError, up.InUse, serve.OldSchema, OSError, psycopg.Error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 not, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (*_EXPECTED, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"reportd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up(options: argparse.Namespace) -> None:
    data = options.data.absolute()
    settings = up.settings(data, options.config, _listening(options))
    log.set_up(settings.log)
    up.up(data, settings)


def _serve(options: argparse.Namespace) -> None:
    service = systemd.Service.taken()
    given = _listening(options)
    if options.workers is not None:
        given["workers"] = options.workers
    settings = config.load(options.config, overrides={"server": given})
    log.set_up(settings.log)
    serve.check_schema(settings)
    serve.log_size(settings)
    if settings.server.workers == 1:
        asyncio.run(serve.run(settings, _ready, service=service))
    else:
        from server import workers  # gunicorn is needed by nothing else

        workers.run(settings, _ready, service)


def _ready(url: str) -> None:
    print(f"reportd is ready at {url}", flush=True)


def _migrate(options: argparse.Namespace) -> None:
    with _database(options) as dsn:
        if options.status:
            for name, applied in migrate.status(dsn):
                print(f"{'applied' if applied else 'missing':8} {name}")
        elif options.rollback is not None:
            for name in migrate.rollback(dsn, options.rollback):
                print(f"rolled back {name}")
        else:
            done = migrate.apply(dsn)
            print("\n".join(f"applied {name}" for name in done) or "nothing to apply")


def _config(options: argparse.Namespace) -> None:
    print(config.to_toml(config.masked(config.load(options.config))), end="")


def _openapi(options: argparse.Namespace) -> None:
    # Not at the top: the handlers import prometheus_client, see serve.run.
    from server.http.openapi import document
    from server.routes import ROUTES

    print(json.dumps(document(ROUTES, __version__), indent=2))


def _token_create(options: argparse.Namespace) -> None:
    token, token_id, end = new_token(), new_id(0), _end(options.expires)

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

    _in_transaction(options, work)
    print(token)


def _token_list(options: argparse.Namespace) -> None:
    rows = _with_database(options, lambda connection, sql: connection.fetch(sql.tokens.all))
    with _piped():
        times = "  ".join(f"{word:16}" for word in ("CREATED", "LAST USED", "EXPIRES"))
        print(f"{'ID':36}  {'NAME':20}  {'PROJECT':12}  {'ROLE':8}  {times}  STATE")
        for row in rows:
            times = "  ".join(f"{_minute(row[key]):16}" for key in ("created_at", "last_used_at", "expires_at"))
            state = "revoked" if row["revoked_at"] else "valid"
            if state == "valid" and row["expires_at"] and row["expires_at"] < datetime.now(UTC):
                state = "expired"
            if state == "valid" and row["former_until"]:
                state = f"valid, its former secret until {_minute(row['former_until'])}"
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
            sql.tokens.rotate, options.token, hash_of(token), options.overlap, _end(options.expires)
        )
        if row is None:
            raise Refused(f"There is no valid token with the id or name {options.token}.")
        subject = Subject("token", row["id"], row["name"], row["project_id"])
        until = row["former_until"]
        await note(connection, sql, Action.TOKEN_ROTATED, operator(), subject, former_secret_until=until)
        return row

    row = _in_transaction(options, work)
    until = f"until {_minute(row['former_until'])} UTC" if options.overlap else "for 5 seconds at most"
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

    row = _in_transaction(options, work)
    print(f"revoked {visible(row['name'])} ({row['id']}); it stops working within 5 seconds")


def _audit(options: argparse.Namespace) -> None:
    def work(connection: Any, sql: Any) -> Awaitable[None]:
        return trail.show(
            connection,
            sql,
            action=options.action,
            actor=options.actor,
            subject_id=options.subject,
            since=None if options.since is None else datetime.now(UTC) - options.since,
            limit=options.limit,
            as_json=options.json,
        )

    with _piped():
        _with_database(options, work)


def _check(options: argparse.Namespace) -> int:
    """0 clean, 1 findings, 2 whatever keeps it from telling: a watcher must not take a failure for an answer."""
    # As Ctrl-C does: a PostgreSQL that was started for this is stopped, and the summary says that it is no whole one.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        if options.data is None:
            settings = config.load(options.config)
        else:
            settings = up.settings(options.data.absolute(), options.config, {})
        chosen = means.Options(options.grace.total_seconds(), options.repair, options.verify_hashes)
        with _database(options) as dsn:
            return asyncio.run(compare.check(dsn, settings, chosen, findings.Report(options.json)))
    except BrokenPipeError:  # whoever read this has enough; the interpreter would try once more to write the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (*_EXPECTED, means.CannotTell, *means.DATABASE_ERRORS) as error:
        print(f"reportd: {str(error) or type(error).__name__}", file=sys.stderr)
    except KeyboardInterrupt:
        print("reportd: The check was interrupted.", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 2


def _verify(options: argparse.Namespace) -> int:
    from server import verify  # its HTTP client is needed by no other command

    return asyncio.run(verify.verify(options.url.rstrip("/"), options.token, options.dsn))


def _listening(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}


class _database:
    """The DSN of the configuration, or of a folder of `up`, whose PostgreSQL is started for the while if need be."""

    def __init__(self, options: argparse.Namespace) -> None:
        database = config.load(options.config).database
        self._dsn = database.dsn
        self._private = up.postgres(options.data.absolute(), database.programs) if options.data else None
        self._started = False

    def __enter__(self) -> str:
        if self._private is None:
            return self._dsn
        if not self._private.data.exists():
            raise Refused(f"{self._private.folder.parent} holds no database of `reportd up`.")
        self._started = not self._private.running()
        if self._started:
            self._private.start()
        return self._private.dsn()

    def __exit__(self, *_: object) -> None:
        if self._private is not None and self._started:
            self._private.stop()


def _with_database(options: argparse.Namespace, work: Callable[[Any, Any], Awaitable[T]]) -> T:
    """What `work(connection, sql)` returns."""

    async def connected(dsn: str) -> T:
        # One statement or two: to prepare them gains nothing, and fails behind PgBouncer.
        connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
        try:
            return await work(connection, load_sql())
        finally:
            await connection.close()

    with _database(options) as dsn:
        return asyncio.run(connected(dsn))


def _in_transaction(options: argparse.Namespace, work: Callable[[Any, Any], Awaitable[T]]) -> T:
    """The same in a transaction, committed when this returns: what is printed before may not have come to pass."""

    async def all_or_nothing(connection: Any, sql: Any) -> T:
        async with connection.transaction():
            return await work(connection, sql)

    return _with_database(options, all_or_nothing)


@contextmanager
def _piped() -> Iterator[None]:
    """For what may be long: whoever reads it may have enough, and the interpreter would try to write the rest."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(after: timedelta | None) -> datetime | None:
    return None if after is None else datetime.now(UTC) + after


def _minute(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M") if time else "never"


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if not match or match[1].strip("0") == "":
        raise argparse.ArgumentTypeError("must be like 12h, 90d or 52w")
    return timedelta(**{{"h": "hours", "d": "days", "w": "weeks"}[match[2]]: int(match[1])})


def _overlap(text: str) -> timedelta:
    return timedelta() if re.fullmatch("0[hdw]", text) else _duration(text)


def _grace(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError("must be like 0s, 30m, 1h or 2d")
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]: int(match[1])})


def _name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("must be 1 to 100 printable characters")
    return text


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reportd", description="A self-hosted test-report server.")
    parser.add_argument("--version", action="version", version=f"reportd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(where: Any, name: str, run: Callable[[argparse.Namespace], object], text: str) -> Any:
        added = where.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def configured(added: Any) -> Any:
        added.add_argument("--config", type=Path, metavar="FILE", help="a config.toml")
        return added

    def stored(added: Any) -> Any:
        configured(added).add_argument("--data", type=Path, metavar="DIR", help="a folder of `reportd up` instead")
        return added

    one = configured(command(commands, "up", _up, "start everything: a private PostgreSQL and the server"))
    one.add_argument("--data", type=Path, default=Path(".reportd"), metavar="DIR", help="default: .reportd")
    several = configured(command(commands, "serve", _serve, "serve, on a database that exists"))
    for listening in (one, several):
        listening.add_argument("--host", help="address to listen on")
        listening.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
    several.add_argument("--workers", type=_count, metavar="N", help="processes that serve; default: 1")
    one = stored(command(commands, "migrate", _migrate, "bring the database schema up to date"))
    choice = one.add_mutually_exclusive_group()
    choice.add_argument("--status", action="store_true", help="only tell what is applied")
    choice.add_argument("--rollback", type=_count, metavar="N", help="take the last N migrations back")
    configured(command(commands, "config", _config, "print the effective configuration, secrets masked"))
    command(commands, "openapi", _openapi, "print the API as OpenAPI 3.1")
    one = stored(command(commands, "check", _check, "compare rows and files; 0 clean, 1 findings, 2 cannot tell"))
    one.add_argument("--repair", action="store_true", help="remove files that no row refers to; rows never")
    one.add_argument("--verify-hashes", action="store_true", help="read every file and compare its SHA-256")
    one.add_argument("--json", action="store_true", help="a JSON object a line: each finding, then the summary")
    grace = "how old a file without a row must be, by ctime; default: 1h"
    one.add_argument("--grace", type=_grace, default="1h", metavar="1h", help=grace)
    one = command(commands, "verify", _verify, "try every endpoint of a running server, and print what came back")
    one.add_argument("--url", required=True, help="like http://127.0.0.1:8000")
    one.add_argument("--token", required=True)
    one.add_argument("--dsn", help="also look at the rows, in the server's database")

    one = stored(command(commands, "audit", _audit, "who did what, when and from where; newest first"))
    one.add_argument(
        "--action", choices=[action.value for action in Action], metavar="A", help="only these, like suite_run.deleted"
    )
    one.add_argument("--actor", metavar="NAME", help="only what this token, person or user of a command did")
    one.add_argument("--subject", type=UUID, metavar="ID", help="only what was done to this")
    one.add_argument("--since", type=_duration, metavar="7d", help="12h, 90d, 52w; default: from the beginning")
    one.add_argument("--limit", type=_count, default=100, metavar="N", help="the newest N; default: 100")
    one.add_argument("--json", action="store_true", help="a JSON object a line, as the API has it")

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
    one.add_argument("--expires", type=_duration, metavar="90d", help="12h, 90d, 52w; default: never")
    stored(command(tokens, "list", _token_list, "list tokens"))
    one = stored(command(tokens, "rotate", _token_rotate, "give a token a new secret; it is shown once"))
    one.add_argument("token", metavar="ID_OR_NAME")
    overlap = "how long the former secret goes on working, 0h if it leaked; default: 24h"
    one.add_argument("--overlap", type=_overlap, default="24h", metavar="24h", help=overlap)
    one.add_argument("--expires", type=_duration, metavar="90d", help="a new end; default: the one it has")
    one = stored(command(tokens, "revoke", _token_revoke, "make a token invalid"))
    one.add_argument("token", metavar="ID_OR_NAME")
    return parser
