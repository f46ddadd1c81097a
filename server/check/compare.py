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

from server import migrate
from server.check.files import Files
from server.check.findings import Report
from server.check.means import DATABASE_ERRORS, THREADS, CannotTell, Means, Options
from server.check.rows import Rows
from server.config import Config
from server.folder import MARK, mark_of
from server.serve import OldSchema
from server.uploads.leftovers import alone


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
                means = Means(connection, root, durable, options, report, threads)
                await _begin(means)
                return await _compare(means)
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


async def _begin(means: Means) -> None:
    """Raises CannotTell unless the folder's files are this database's."""
    try:
        (state,) = await means.fetch(means.sql.check.state)
    except asyncpg.UndefinedTableError:
        raise OldSchema(OldSchema.__doc__) from None
    if missing := sorted(migrate.known_versions() - set(state["versions"] or [])):
        raise OldSchema(f"{OldSchema.__doc__} Missing: {', '.join(missing)}")
    means.estimate = state["estimate"]
    own = await means.fetch(means.sql.storage_folder.id)
    mark = await means.run(mark_of, Path(means.root))
    if not own:
        raise CannotTell("The database does not know its storage folder yet: start the server once.")
    if mark is None:
        raise CannotTell(f"{means.root} is not this database's storage folder: no {MARK} is in it. Is it mounted?")
    if mark != own[0]["id"]:
        raise CannotTell(f"{means.root} is the storage folder of another database.")


async def _compare(means: Means) -> int:
    """Goes through everything. What stops it half-way is told in the summary."""
    failure = None
    try:
        await Rows(means).compare()
        await Files(means).compare()
        means.must_be_mounted()
    except (CannotTell, OSError, *DATABASE_ERRORS) as error:
        failure = str(error) or type(error).__name__
    except asyncio.CancelledError:
        means.report.summary("It was interrupted.")
        raise
    finally:
        means.stopped = True
    return means.report.summary(failure)
