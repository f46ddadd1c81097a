"""The `reportd` command."""

import argparse
import asyncio
import json
import os
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg

from server import __version__, config
from server.commands import audit, serve, settings, systemd, tokens, up, users
from server.commands.check import compare, findings
from server.commands.check.context import DATABASE_ERRORS, CannotTell, Options
from server.commands.console import Database, Refused, duration, interruptible, piped, run, with_database
from server.config import ConfigError
from server.database import embedded, migrate
from server.observe import log
from server.observe.audit import Action

_EXPECTED = (Refused, ConfigError, embedded.EmbeddedError, up.InUse, serve.OldSchema, OSError, psycopg.Error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 not, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        # A server has its own way to end, and a SIGTERM before it serves is a clean stop for systemd.
        with nullcontext() if options.run in (_serve, _up) else interruptible():
            return int(options.run(options) or 0)
    except (*_EXPECTED, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"reportd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up(options: argparse.Namespace) -> None:
    data = options.data.absolute()
    loaded = up.settings(data, options.config, _listening(options))
    log.set_up(loaded.log)
    up.up(data, loaded)


def _serve(options: argparse.Namespace) -> None:
    service = systemd.Service.taken()
    given = _listening(options)
    if options.workers is not None:
        given["workers"] = options.workers
    loaded = settings.load(options.config, overrides={"server": given})
    log.set_up(loaded.log)
    serve.check_schema(loaded)
    serve.log_size(loaded)
    if loaded.server.workers == 1:
        asyncio.run(serve.run(loaded, _ready, service=service))
    else:
        from server.commands import workers  # gunicorn is needed by nothing else

        workers.run(loaded, _ready, service)


def _ready(url: str) -> None:
    print(f"reportd is ready at {url}", flush=True)


def _migrate(options: argparse.Namespace) -> None:
    with Database(options) as dsn:
        if options.status:
            for name, applied in migrate.status(dsn):
                print(f"{'applied' if applied else 'waits' if migrate.waits(name) else 'missing':8} {name}")
        elif options.rollback is not None:
            for name in migrate.rollback(dsn, options.rollback):
                print(f"rolled back {name}")
        else:
            done = migrate.apply(dsn, options.finish)
            print("\n".join(f"applied {name}" for name in done) or "nothing to apply")
            for name in [name for name, applied in migrate.status(dsn) if not applied]:
                print(f"{name} waits until no older server runs: then `reportd migrate --finish`", file=sys.stderr)


def _config(options: argparse.Namespace) -> None:
    print(config.to_toml(config.masked(settings.load(options.config))), end="")


def _openapi(options: argparse.Namespace) -> None:
    # Not at the top: the handlers import prometheus_client, see serve.run.
    from server.http.openapi import document
    from server.routes import ROUTES

    print(json.dumps(document(ROUTES, __version__), indent=2))


def _audit(options: argparse.Namespace) -> None:
    def work(connection: Any) -> Awaitable[None]:
        return audit.show(
            connection,
            action=options.action,
            actor=options.actor,
            subject_id=options.subject,
            since=None if options.since is None else datetime.now(UTC) - options.since,
            limit=options.limit,
            as_json=options.json,
        )

    with piped():
        with_database(options, work)


def _check(options: argparse.Namespace) -> int:
    """0 clean, 1 findings, 2 whatever keeps it from telling: a watcher must not take a failure for an answer."""
    try:
        if options.data is None:
            loaded = settings.load(options.config)
        else:
            loaded = up.settings(options.data.absolute(), options.config, {})
        chosen = Options(options.grace.total_seconds(), options.repair, options.verify_hashes)
        with Database(options) as dsn:
            return run(compare.check(dsn, loaded, chosen, findings.Report(options.json)))
    except BrokenPipeError:  # whoever read this has enough; the interpreter would try once more to write the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (*_EXPECTED, CannotTell, *DATABASE_ERRORS) as error:
        print(f"reportd: {str(error) or type(error).__name__}", file=sys.stderr)
    except KeyboardInterrupt:
        print("reportd: The check was interrupted.", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 2


def _verify(options: argparse.Namespace) -> int:
    from server.commands import verify  # its HTTP client is needed by no other command

    return run(verify.verify(options.url.rstrip("/"), options.token, options.dsn))


def _listening(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}


def _grace(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError("must be like 0s, 30m, 1h or 2d")
    return timedelta(**{{"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]: int(match[1])})


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
    choice.add_argument(
        "--finish", action="store_true", help="also drop what only older servers use: none runs any more"
    )
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
    one.add_argument("--since", type=duration, metavar="7d", help="12h, 90d, 52w; default: from the beginning")
    one.add_argument("--limit", type=_count, default=100, metavar="N", help="the newest N; default: 100")
    one.add_argument("--json", action="store_true", help="a JSON object a line, as the API has it")

    tokens.add_commands(commands, command, stored)
    users.add_commands(commands, command, stored)
    return parser
