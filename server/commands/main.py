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
from server.commands import (
    archives,
    audit,
    epilogs,
    projects,
    regroup,
    serve,
    settings,
    systemd,
    tokens,
    up,
    users,
    webhooks,
)
from server.commands.backup import options as backups
from server.commands.check import compare, findings, folder
from server.commands.check.context import DATABASE_ERRORS, CheckFailed, Options
from server.commands.console import (
    Database,
    Refused,
    duration,
    interruptible,
    piped,
    run,
    unreachable,
    use_running_server,
    with_database,
)
from server.commands.demo import options as demo
from server.config import ConfigError
from server.database import clients, embedded, migrate
from server.errors import ByProvider, NameTaken
from server.observe import log
from server.observe.audit import Action

_REFUSED = (Refused, NameTaken, ByProvider)
_PRIVATE = (embedded.EmbeddedError, clients.NoClients, up.InUse)
_EXPECTED = (*_REFUSED, *_PRIVATE, ConfigError, serve.OldSchema, serve.OtherDatabase, OSError, psycopg.Error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted. `check` has its own codes."""
    options = _parser().parse_args(arguments)
    try:
        # `serve` and `up` handle SIGTERM themselves. For systemd, a SIGTERM before they serve is a clean stop.
        with nullcontext() if options.run in (_serve, _up) else interruptible():
            return int(options.run(options) or 0)
    except (asyncpg.UndefinedTableError, psycopg.errors.UndefinedTable):
        print(f"reportd: {serve.OldSchema.__doc__}", file=sys.stderr)
        return 1
    except (*_EXPECTED, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"reportd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up(options: argparse.Namespace) -> None:
    data = options.data.absolute()
    loaded = up.settings(data, options.config, _listening(options))
    log.set_up(loaded.log)
    up.up(data, loaded, demo.command_line(data, options.config) if options.demo else ())


def _serve(options: argparse.Namespace) -> None:
    service = systemd.Service.from_environment()
    given = _listening(options)
    if options.workers is not None:
        given["workers"] = options.workers
    loaded = settings.load(options.config, overrides={"server": given})
    log.set_up(loaded.log)
    serve.check_schema(loaded)
    serve.check_standby(loaded)
    serve.log_size(loaded)
    if loaded.server.workers == 1:
        asyncio.run(serve.run(loaded, _ready, service=service))
    else:
        from server.commands import workers  # imported late: only this branch needs gunicorn

        workers.run(loaded, _ready, service)


def _ready(url: str) -> None:
    print(f"reportd is ready at {url}", flush=True)


def _migrate(options: argparse.Namespace) -> None:
    with Database(options) as dsn:
        try:
            _migrate_database(dsn, options)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None:  # an error of a migration, not of the connection
                raise
            raise unreachable(dsn, str(error).partition("\n")[0]) from None


def _migrate_database(dsn: str, options: argparse.Namespace) -> None:
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
            print(f"{name} waits: run `reportd migrate --finish` when no older server runs any more", file=sys.stderr)


def _config(options: argparse.Namespace) -> None:
    print(config.to_toml(config.masked(settings.load(options.config))), end="")


def _openapi(options: argparse.Namespace) -> None:
    # Imported late: the handlers import prometheus_client, see serve.run.
    from server.http.openapi import document
    from server.routes import ROUTES

    print(json.dumps(document(ROUTES, __version__), indent=2))


def _audit(options: argparse.Namespace) -> None:
    if options.drop_older_than is not None:
        with_database(options, lambda connection: audit.drop(connection, options.drop_older_than))
        return

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
    """The exit code: 0 no findings, 1 findings, 2 any failure. Monitoring must not take a failure for a result."""
    try:
        if options.folder is not None or options.other is not None:
            return folder.check_folder(options)
        use_running_server(options)
        if options.data is None:
            loaded = settings.load(options.config)
        else:
            loaded = up.settings(options.data.absolute(), options.config, {})
        chosen = Options(options.grace.total_seconds(), options.repair, options.verify_hashes)
        with Database(options) as dsn:
            return run(compare.check(dsn, loaded, chosen, findings.Report(options.json)))
    except BrokenPipeError:  # the reader closed the pipe; at exit the interpreter must not write the rest to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (*_EXPECTED, CheckFailed, *DATABASE_ERRORS) as error:
        print(f"reportd: {str(error) or type(error).__name__}", file=sys.stderr)
    except KeyboardInterrupt:
        print("reportd: The check was interrupted.", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 2


def _verify(options: argparse.Namespace) -> int:
    from server.commands import verify  # imported late: no other command needs its HTTP client

    url, token = options.url, options.token
    if url is None:
        server = up.server_here() if options.data is None else up.server_of(options.data.absolute())
        if server is None:
            where = "this directory" if options.data is None else options.data
            raise Refused(f"No `reportd up` serves in {where}. Start it, or name the server with --url and --token.")
        url, token = server[0], token or server[1]
    if token is None:  # with --url too: another server must never be sent the admin token of the one here
        raise Refused("Name a token of the server with --token: an admin's, or an uploader's.")
    return run(verify.verify(url, token, options.dsn))


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
    parser = argparse.ArgumentParser(
        prog="reportd",
        description="A self-hosted test-report server. Test runners upload results and files over HTTP,\n"
        "people read them in a browser.",
        epilog=epilogs.REPORTD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"reportd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_up_and_serve(commands)
    _add_migrate(commands)
    text = "print the configuration in effect, with passwords masked"
    _configured(_command(commands, "config", _config, text, epilogs.CONFIG))
    text = "print the description of the HTTP API (OpenAPI 3.1, JSON)"
    _command(commands, "openapi", _openapi, text, epilogs.OPENAPI)
    _add_check(commands)
    _add_verify(commands)
    demo.add_command(commands, _command)
    _add_audit(commands)
    regroup.add_command(commands, _command, _stored)
    archives.add_commands(commands, _command, _stored)
    backups.add_commands(commands, _command, _stored)
    tokens.add_commands(commands, _command, _stored)
    projects.add_commands(commands, _command, _stored)
    users.add_commands(commands, _command, _stored)
    webhooks.add_commands(commands, _command, _stored)
    return parser


def _command(where: Any, name: str, run: Callable[[argparse.Namespace], object], text: str, epilog: str = "") -> Any:
    """Add a subcommand. `text` describes it in one line, `epilog` is printed below its options."""
    added = where.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(run=run)
    return added


def _configured(added: Any) -> Any:
    """Add --config to a subcommand."""
    text = "TOML file with the configuration; REPORTD_* environment variables override it"
    added.add_argument("--config", type=Path, metavar="FILE", help=text)
    return added


def _stored(added: Any) -> Any:
    """Add --config and --data to a subcommand that uses the database."""
    text = "use this folder of `reportd up` (default: .reportd, if its server is running)"
    _configured(added).add_argument("--data", type=Path, metavar="DIR", help=text)
    return added


def _add_up_and_serve(commands: Any) -> None:
    text = "start a private PostgreSQL and the server, with all data in one folder"
    one = _configured(_command(commands, "up", _up, text, epilogs.UP))
    text = "folder for the database, files and admin token; created if missing (default: .reportd)"
    one.add_argument("--data", type=Path, default=up.DEFAULT_DATA, metavar="DIR", help=text)
    text = "the first time, also send the demo, in the background; see `reportd demo --help`"
    one.add_argument("--demo", action="store_true", help=text)
    text = "start the server on an existing PostgreSQL database"
    several = _configured(_command(commands, "serve", _serve, text, epilogs.SERVE))
    for listening in (one, several):
        listening.add_argument("--host", help="address to listen on (default: 127.0.0.1, or [server] host)")
        text = "port to listen on, 0 for any free port (default: 8000, or [server] port)"
        listening.add_argument("--port", type=int, help=text)
    text = "number of worker processes, about one for each core (default: 1, or [server] workers)"
    several.add_argument("--workers", type=_count, metavar="N", help=text)


def _add_migrate(commands: Any) -> None:
    text = "create or update the database tables"
    choice = _stored(_command(commands, "migrate", _migrate, text, epilogs.MIGRATE)).add_mutually_exclusive_group()
    text = "only list the migrations, each as applied, missing, or waits (for --finish)"
    choice.add_argument("--status", action="store_true", help=text)
    text = "also drop tables and functions that only older servers use; stop all older servers first"
    choice.add_argument("--finish", action="store_true", help=text)
    text = "undo the last N migrations; this may lose data, so take a backup first"
    choice.add_argument("--rollback", type=_count, metavar="N", help=text)


def _add_check(commands: Any) -> None:
    text = "compare the artifacts in the database with the stored files"
    added = _stored(_command(commands, "check", _check, text, epilogs.CHECK))
    text = "remove files that no database row refers to; database rows are never changed"
    added.add_argument("--repair", action="store_true", help=text)
    text = "also read every file and compare its SHA-256; slow"
    added.add_argument("--verify-hashes", action="store_true", help=text)
    text = "print one JSON object per line: each finding or promise, then the summary"
    added.add_argument("--json", action="store_true", help=text)
    text = "instead try whether reportd can store files in PATH; needs no database"
    added.add_argument("--folder", type=Path, metavar="PATH", help=text)
    text = "a second mount of the same folder: also try what one host sees of another's files"
    added.add_argument("--other", type=Path, metavar="PATH", help=text)
    text = "skip files that have no row and are younger than AGE, like 0s, 30m, 2d (default: 1h)"
    added.add_argument("--grace", type=_grace, default="1h", metavar="AGE", help=text)


def _add_verify(commands: Any) -> None:
    text = "send the requests of a typical client to a running server and check the replies"
    added = _command(commands, "verify", _verify, text, epilogs.VERIFY)
    server = added.add_mutually_exclusive_group()
    text = "address of the server, like http://127.0.0.1:8000 (default: the `reportd up` that runs in this directory)"
    server.add_argument("--url", help=text)
    text = "use the `reportd up` that runs on this folder (default: .reportd)"
    server.add_argument("--data", type=Path, metavar="DIR", help=text)
    text = "a token of the server; only an admin's can delete the run that the check creates (default: the admin token "
    added.add_argument("--token", help=f"{text}of that `reportd up`)")
    text = "also count the rows in the server's database, like postgresql://reportd:PASSWORD@localhost/reportd"
    added.add_argument("--dsn", help=text)


def _add_audit(commands: Any) -> None:
    text = "list who did what, when and from where, newest first"
    added = _stored(_command(commands, "audit", _audit, text, epilogs.AUDIT))
    text = "only entries of this action, like suite_run.deleted"
    added.add_argument("--action", choices=[action.value for action in Action], metavar="ACTION", help=text)
    text = "only entries of this token, person, or operating-system user who ran a command"
    added.add_argument("--actor", metavar="NAME", help=text)
    text = "only entries about the run, artifact, token, person or link with this id"
    added.add_argument("--subject", type=UUID, metavar="ID", help=text)
    text = "only entries younger than AGE: like 12h, 90d, 52w (default: all)"
    added.add_argument("--since", type=duration, metavar="AGE", help=text)
    added.add_argument("--limit", type=_count, default=100, metavar="N", help="the newest N entries (default: 100)")
    text = "print one JSON object per line, with the fields of GET /api/v1/audit"
    added.add_argument("--json", action="store_true", help=text)
    text = "instead remove the months of entries that ended AGE ago, like 104w; needs the account that owns the tables"
    added.add_argument("--drop-older-than", type=audit.droppable, metavar="AGE", help=text)
