"""What `reportd open` and `reportd import` do with a zip that GET /suite-runs/{id}/archive made."""

import argparse
from contextlib import suppress
from pathlib import Path

import msgspec

from server.archive.importing import Import, Imported, NotImported
from server.archive.opened import BadArchive, Opened
from server.archive.serving import ArchiveServer
from server.commands import settings, up
from server.commands.console import Database, Refused, run, use_running_server
from server.config import Config
from server.database.errors import UNAVAILABLE
from server.database.pool import open_pool
from server.errors import ReportError
from server.observe.audit import operator
from server.observe.log import visible
from server.storage.folder import Storage
from server.storage.ownership import ensure_own

_CLOSE_SECONDS = 5.0


def open_archive(options: argparse.Namespace) -> None:
    """Check an archive and serve it. Raises Refused, OSError."""
    try:
        with Opened(options.archive) as archive, ArchiveServer(archive, options.port) as server:
            _serve(server, options.archive)
    except BadArchive as error:
        raise Refused(str(error)) from error


def _serve(server: ArchiveServer, path: Path) -> None:
    """Until Ctrl-C or SIGTERM, which is the regular end."""
    with suppress(KeyboardInterrupt):
        print(f"{path} is whole. Open {server.url} in a browser; Ctrl-C ends this.", flush=True)
        server.serve_forever()


def import_archive(options: argparse.Namespace) -> None:
    """Check an archive and store its run. Raises Refused, OSError."""
    use_running_server(options)
    try:
        with Opened(options.archive) as archive:
            importing = Import(archive, options.project, operator())
            if options.data is None:
                loaded = settings.load(options.config)
            else:
                loaded = up.settings(options.data.absolute(), options.config, {})
            with Database(options) as dsn:
                done = run(_save(importing, dsn, loaded))
    except (BadArchive, NotImported) as error:
        raise Refused(f"{error} Nothing was imported.") from error
    except ReportError as error:  # the storage is full or away, or the outcome of the commit is unknown
        raise Refused(error.detail) from error
    _print(done)


async def _save(importing: Import, dsn: str, config: Config) -> Imported:
    files = config.artifacts
    sizes = files.file_timeout, files.min_free_bytes
    storage = Storage(files.storage_path, files.durability, *sizes, hard_links=files.hard_links)
    pool = await open_pool(msgspec.structs.replace(config.database, dsn=dsn))
    await storage.start()
    try:
        if not await ensure_own(pool, storage):
            raise Refused("The database or the storage folder does not answer. Nothing was imported.")
        return await importing.save(pool, storage)
    except UNAVAILABLE as error:
        raise Refused(f"The database was lost ({error!r}). Run the command again: it changes nothing twice.") from error
    finally:
        await storage.stop()
        await pool.close(_CLOSE_SECONDS)


def _print(done: Imported) -> None:
    what = f"run {done.run_id} ({visible(done.name)}) in project {visible(done.project)}"
    if not done.is_new:
        print(f"{what} was there already: nothing changed")
        return
    print(f"imported {what}: {done.results} results, {done.artifacts} artifacts")
    if done.lost:
        print(f"{done.lost} artifacts have no file: the archive does not have their bytes")
