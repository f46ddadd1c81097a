"""`reportd restore`: files first, then the database in one transaction, then `reportd check`.

Until the transaction is committed, the database and its files are as they were: files are only added, and one that has
other bytes is replaced. So an interrupted restore can be repeated, and breaks nothing.
"""

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

from server.commands import up
from server.commands.backup import database
from server.commands.backup.contents import Listed, read_list
from server.commands.backup.layout import DUMP, LIST, Backups, Manifest, read_manifest, sync_folder
from server.commands.backup.placing import Placed, Placing, begin, finish, is_begun
from server.commands.check import compare, findings
from server.commands.check.context import Options
from server.commands.console import Database, Refused, run
from server.commands.serve import OldSchema
from server.config import Config
from server.database import migrate
from server.database.clients import Clients, find_clients
from server.database.queries import SQL
from server.storage.marker import MARKER, WrongFolder, read_marker
from server.storage.walk import NOT_OURS

_PORTION = 1000
_ROWS = ("missing_file", "not_a_file", "wrong_size", "wrong_hash")  # findings about artifacts


@dataclass(frozen=True, slots=True)
class Restored:
    name: str
    manifest: Manifest
    placed: Placed
    checked: dict[str, Any]  # the summary of `reportd check`
    files_only: bool

    @property
    def is_whole(self) -> bool:
        """Whether the check could finish, and all that the backup has is there."""
        as_backed_up = not self.placed.lost if self.files_only else self.lost <= self.manifest.files.missing
        return bool(self.checked["complete"]) and as_backed_up

    @property
    def lost(self) -> int:
        return sum(self.checked["findings"].get(kind, 0) for kind in _ROWS)


@contextmanager
def target(options: Namespace, config: Config) -> Iterator[str]:
    """The DSN of the database to restore into. Creates a folder of `reportd up`, and starts its PostgreSQL meanwhile.

    Raises InUse when a `reportd up` runs on the folder.
    """
    if options.data is None:
        with Database(options) as dsn:
            yield dsn
        return
    data = options.data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    with up.locked(data):
        private = up.postgres(data, config.database.programs)
        private.start()
        try:
            yield private.dsn()
        finally:
            private.stop()


def restore(dsn: str, config: Config, backups: Backups, name: str | None, replace: bool, is_last: bool) -> Restored:
    """Restore a backup. `replace`: also into a database or a storage folder that is not empty.

    `is_last`: no older server uses the database. Raises Refused, NoClients, OSError, psycopg.Error.
    """
    root = os.path.realpath(config.artifacts.storage_path)
    backups.ensure_apart(root)
    backup = backups.choose(name)
    with backups.locked(), database.connected(dsn) as connection:
        manifest = read_manifest(backup)
        if unknown := sorted(set(manifest.migrations) - migrate.versions()):
            raise Refused(
                f"The backup was made by reportd {manifest.reportd}, whose tables this version does not know: it lacks "
                f"{', '.join(unknown)}. Install that version or a newer one."
            )
        programs = _programs(connection, manifest, config)
        is_filled = _ensure_target(connection, root, manifest, backup.name, replace)
        begin(root, backup.name)
        placed = Placing(backups.contents, root).place(read_list(backup / LIST))
        database.restore(dsn, connection, programs, backup / DUMP, is_filled)
        _mark(root, manifest)
        finish(root)
    migrate.apply(dsn, is_last)
    with database.connected(dsn) as connection:
        connection.execute(SQL.backup.analyze)
        connection.commit()
    return Restored(backup.name, manifest, placed, _check(dsn, config), files_only=False)


def restore_files(dsn: str, config: Config, backups: Backups, name: str | None) -> Restored:
    """Put back the files of artifacts that the database still has; its rows stay. Raises as restore() does."""
    root = os.path.realpath(config.artifacts.storage_path)
    backups.ensure_apart(root)
    backup = backups.choose(name)
    with backups.locked(), database.connected(dsn) as connection:
        manifest = read_manifest(backup, LIST)
        (state,) = connection.execute(SQL.check.state).fetchall()
        if migrate.needed_versions() - set(state.versions or []):
            raise OldSchema(OldSchema.__doc__)
        if [row.id for row in connection.execute(SQL.storage_folder.id)] != [manifest.storage_id]:
            raise Refused("The backup is of another database, which has none of its artifacts.")
        if _is_marked_by_another(root, manifest):
            raise Refused(f"{root} is the storage folder of another database. Correct [artifacts] storage_path.")
        os.makedirs(root, 0o750, exist_ok=True)
        begin(root, backup.name)
        placed = Placing(backups.contents, root).place(_still_there(connection, read_list(backup / LIST)))
        _mark(root, manifest)
        finish(root)
    return Restored(backup.name, manifest, placed, _check(dsn, config), files_only=True)


def _still_there(connection: database.Connection, listed: Iterator[Listed]) -> Iterator[Listed]:
    with psycopg.RawCursor(connection) as cursor:
        while portion := list(islice(listed, _PORTION)):
            wanted = [[file.storage_path for file in portion], [file.checksum for file in portion]]
            there = {path for (path,) in cursor.execute(SQL.backup.still_there, wanted)}
            yield from (file for file in portion if file.storage_path in there)


def _check(dsn: str, config: Config) -> dict[str, Any]:
    """The summary of `reportd check --verify-hashes`, which prints what it finds."""
    report = findings.Report(as_json=False)
    run(compare.check(dsn, config, Options(grace=0.0, verify_hashes=True), report))
    return report.plain


def _programs(connection: database.Connection, manifest: Manifest, config: Config) -> Clients:
    server = connection.info.server_version // 10_000
    if server < manifest.postgres:
        raise Refused(
            f"The backup was made of a PostgreSQL {manifest.postgres}, and this one is {server}. "
            f"Restore into PostgreSQL {manifest.postgres} or newer."
        )
    return find_clients(server, config.database.programs, oldest=manifest.pg_dump)


def _ensure_target(connection: database.Connection, root: str, manifest: Manifest, name: str, replace: bool) -> bool:
    """Whether the database has tables. Raises Refused when it may not be replaced, or is in use."""
    state = database.one(connection, SQL.backup.target)
    if state.others:
        raise Refused(f"{state.others} other connections use the database. Stop all reportd servers first.")
    os.makedirs(root, 0o750, exist_ok=True)
    if state.tables and not replace:
        raise Refused("The database is not empty. To replace everything in it with the backup, add --replace.")
    begun = is_begun(root, name)
    with os.scandir(root) as entries:
        filled = any(not entry.name.startswith(".") and entry.name not in NOT_OURS for entry in entries)
    if (filled or _is_marked_by_another(root, manifest)) and not replace and not begun:
        raise Refused(
            f"The storage folder {root} is not empty. To add the files of the backup to it, add --replace: it removes "
            "none."
        )
    return bool(state.tables)


def _is_marked_by_another(root: str, manifest: Manifest) -> bool:
    try:
        return read_marker(Path(root)) not in (None, manifest.storage_id)
    except WrongFolder:  # it holds no id
        return True


def _mark(root: str, manifest: Manifest) -> None:
    """The storage folder is from now on the one of the restored database."""
    written = Path(root, f"{MARKER}-restored")
    written.write_text(f"{manifest.storage_id}\n", "ascii")
    written.replace(Path(root, MARKER))
    sync_folder(root)
