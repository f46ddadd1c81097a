"""`reportd check`: compares the artifact rows with the files in the storage folder.

The check reads rows and files in portions, to bound memory and to avoid long transactions. Servers may write and delete
meanwhile: each suspect is checked a second time, in an order that rules out a concurrent upload or DELETE as its cause.
The check changes no row of a report: it only stores its own result, for the pages. findings.py does all printing.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import asyncpg

from server.commands.check.context import DATABASE_ERRORS, THREADS, CheckFailed, Context, Options
from server.commands.check.files import Files
from server.commands.check.findings import Report
from server.commands.check.rows import Rows
from server.commands.console import connect
from server.commands.serve import OldSchema
from server.config import Config
from server.database import migrate
from server.database.queries import SQL
from server.storage.marker import MARKER, read_marker

# The key of the advisory lock that a check with --repair holds: `reportck` in ASCII.
_LOCK = 0x7265706F7274636B
_ROLLBACK_SECONDS = 2.0


async def check(dsn: str, config: Config, options: Options, report: Report) -> int:
    """Run the check; the exit code: 0 no findings, 1 findings, 2 the check is incomplete.

    Raises CheckFailed, OSError or an error of asyncpg when it cannot start.
    """
    root = _folder(config)
    connection = await _connect(dsn, config)
    try:
        async with _alone(dsn, config) if options.repair else nullcontext():
            durable = config.artifacts.durability == "full"
            with ThreadPoolExecutor(THREADS, thread_name_prefix="check") as threads:
                context = Context(connection, root, durable, options, report, threads)
                await _begin(context)
                code = await _compare(context)
                await _save(context, code)
                return code
    finally:
        connection.terminate()


def _folder(config: Config) -> str:
    root = os.path.abspath(config.artifacts.storage_path)
    if not os.path.isdir(root):
        raise CheckFailed(
            f"The storage folder {root} does not exist. Is its disk mounted, and is [artifacts] storage_path right?"
        )
    return root


@asynccontextmanager
async def _alone(dsn: str, config: Config) -> AsyncIterator[None]:
    """Raise CheckFailed while another check with --repair runs on this database, from whichever host.

    The lock belongs to a transaction on a connection of its own: that of the check must not keep the row locks of
    `locked_cases`. A lock on the storage folder would not be seen by other hosts.
    """
    connection = await _connect(dsn, config)
    try:
        await (transaction := connection.transaction()).start()
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if connection.get_server_version() >= (17,):
            await connection.execute("SET LOCAL transaction_timeout = 0")
        if not await connection.fetchval(SQL.check.lock, _LOCK):
            raise CheckFailed(
                "Another `reportd check --repair` runs on this database, perhaps on another host. Wait until it has "
                "ended."
            )
        try:
            yield
        finally:
            # If the connection was lost, so is the lock. Each single removal is safe without it.
            with suppress(TimeoutError, OSError, *DATABASE_ERRORS):
                async with asyncio.timeout(_ROLLBACK_SECONDS):
                    await transaction.rollback()
    finally:
        connection.terminate()


async def _connect(dsn: str, config: Config) -> Any:
    database = config.database
    return await connect(
        dsn,
        timeout=database.connect_timeout,
        command_timeout=database.command_timeout,
        target_session_attrs="primary",  # a standby may lag: the files of rows that it lacks would be findings
        server_settings={"application_name": "reportd check"},
    )


async def _begin(context: Context) -> None:
    """Raise CheckFailed unless the storage folder belongs to this database, OldSchema when migrations are missing."""
    try:
        (state,) = await context.fetch(SQL.check.state)
    except asyncpg.UndefinedTableError:
        raise OldSchema(OldSchema.__doc__) from None
    if missing := sorted(migrate.needed_versions() - set(state["versions"] or [])):
        raise OldSchema(f"{OldSchema.__doc__} Missing: {', '.join(missing)}")
    context.estimated_artifacts = state["estimate"]
    own = await context.fetch(SQL.storage_folder.id)
    marker = await context.run(read_marker, Path(context.root))
    if not own:
        raise CheckFailed("No server has used this database yet: its storage folder is unknown. Start the server once.")
    if marker is None:
        raise CheckFailed(
            f"{context.root} is not this database's storage folder: it has no file {MARKER}. Is its disk mounted?"
        )
    if marker != own[0]["id"]:
        raise CheckFailed(
            f"{context.root} is the storage folder of another database. Correct [artifacts] storage_path or [database] "
            "dsn in the configuration."
        )


async def _compare(context: Context) -> int:
    """Compare everything and print the summary, which also reports an error that ended the check early."""
    failure = None
    try:
        await Rows(context).compare()
        await Files(context).compare()
        context.ensure_mounted()
    except (CheckFailed, OSError, *DATABASE_ERRORS) as error:
        failure = str(error) or type(error).__name__
    except asyncio.CancelledError:
        context.report.summary("It was interrupted. Run it again.")
        raise
    finally:
        context.stopped = True
    return context.report.summary(failure)


async def _save(context: Context, code: int) -> None:
    """Store the result. Without it, the check is as good: a database that refuses the row is only reported."""
    try:
        await context.fetch(SQL.check.save, code, json.dumps(context.report.plain))
    except DATABASE_ERRORS as error:
        print(f"reportd: The result was not stored for the pages: {error}", file=sys.stderr)
