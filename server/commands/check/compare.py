"""`reportd check`: holds the artifacts' rows and the files in the storage folder against each other.

Goes through both in portions, so that memory is bounded and no transaction long, while servers write and delete. What
looks wrong is therefore looked at again, in an order in which no upload or DELETE can have made it look so. Never
writes to the database; prints nothing itself (findings.py).
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import asyncpg

from server.commands.check.context import DATABASE_ERRORS, THREADS, CannotTell, Context, Options
from server.commands.check.files import Files
from server.commands.check.findings import Report
from server.commands.check.rows import Rows
from server.commands.serve import OldSchema
from server.config import Config
from server.database import migrate
from server.database.queries import SQL
from server.storage.marker import MARKER, read_marker
from server.storage.orphans import alone


async def check(dsn: str, config: Config, options: Options, report: Report) -> int:
    """The exit code: 0 clean, 1 findings, 2 cannot tell. Raises CannotTell, OSError or an error of asyncpg's when it
    cannot begin."""
    root = _folder(config)
    connection = await _connect(dsn, config)
    try:
        with alone(Path(root)) if options.repair else nullcontext(True) as is_alone:
            if not is_alone:
                raise CannotTell(f"Another `reportd check --repair` is at work in {root}.")
            durable = config.artifacts.durability == "full"
            with ThreadPoolExecutor(THREADS, thread_name_prefix="check") as threads:
                context = Context(connection, root, durable, options, report, threads)
                await _begin(context)
                return await _compare(context)
    finally:
        connection.terminate()


def _folder(config: Config) -> str:
    root = os.path.abspath(config.artifacts.storage_path)
    if not os.path.isdir(root):
        raise CannotTell(f"The storage folder {root} is not there.")
    return root


async def _connect(dsn: str, config: Config) -> Any:
    database = config.database
    return await asyncpg.connect(
        dsn,
        timeout=database.connect_timeout,
        command_timeout=database.command_timeout,
        statement_cache_size=0,  # PgBouncer may come in between
        target_session_attrs="primary",  # a standby lags behind: rows that it does not have yet have files
        server_settings={"application_name": "reportd check"},
    )


async def _begin(context: Context) -> None:
    """Raises CannotTell unless the folder's files are this database's."""
    try:
        (state,) = await context.fetch(SQL.check.state)
    except asyncpg.UndefinedTableError:
        raise OldSchema(OldSchema.__doc__) from None
    if missing := sorted(migrate.needed_versions() - set(state["versions"] or [])):
        raise OldSchema(f"{OldSchema.__doc__} Missing: {', '.join(missing)}")
    context.estimate = state["estimate"]
    own = await context.fetch(SQL.storage_folder.id)
    marker = await context.run(read_marker, Path(context.root))
    if not own:
        raise CannotTell("The database does not know its storage folder yet: start the server once.")
    if marker is None:
        raise CannotTell(f"{context.root} is not this database's storage folder: no {MARKER} is in it. Is it mounted?")
    if marker != own[0]["id"]:
        raise CannotTell(f"{context.root} is the storage folder of another database.")


async def _compare(context: Context) -> int:
    """Goes through everything. What stops it half-way is told in the summary."""
    failure = None
    try:
        await Rows(context).compare()
        await Files(context).compare()
        context.must_be_mounted()
    except (CannotTell, OSError, *DATABASE_ERRORS) as error:
        failure = str(error) or type(error).__name__
    except asyncio.CancelledError:
        context.report.summary("It was interrupted.")
        raise
    finally:
        context.stopped = True
    return context.report.summary(failure)
