"""`reportd backup`: a dump of the database, and the files of its artifacts, beside running servers. Blocking.

From before the dump until the last file no server unlinks a file, see sql/backup.sql: so each row of the dump has its
file, also when it is deleted meanwhile. The dump and the list of files are of one snapshot. Everything that was
acknowledged before has its row in it, and its file was durable before that row.
"""

import gzip
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from server import __version__
from server.commands.backup.contents import Contents, Listed, prune, write_line
from server.commands.backup.database import Connection, connected, dump, one
from server.commands.backup.layout import (
    DUMP,
    FORMAT,
    LIST,
    MANIFEST,
    PARTIAL,
    Backups,
    Files,
    Manifest,
    Part,
    Rows,
    create,
    read_manifest,
    write_synced,
)
from server.commands.console import Refused
from server.config import Config
from server.database.clients import Clients, find_clients
from server.database.queries import SQL
from server.storage.disk import FULL
from server.storage.marker import MARKER, read_marker
from server.storage.paths import leads_out

_PORTION = 1000  # files at a time
_THREADS = 4  # each waits for a disk most of the time
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Made:
    name: str
    manifest: Manifest
    missing: list[str]  # paths of artifacts without a file, the first MOST_NAMED
    removed: list[str]  # older backups


@dataclass(slots=True)
class _Copied:
    """What was done with the files so far. Contents are counted once, and sizes in bytes."""

    missing: int = 0
    contents: int = 0
    bytes: int = 0
    new: int = 0
    new_bytes: int = 0
    linked: int = 0
    named: list[str] = field(default_factory=list)
    last: str = ""  # the checksum that was counted last

    def count(self, group: list[Listed], done: str) -> None:
        if done == "missing":
            self.missing += len(group)
            self.named += [file.storage_path for file in group[: MOST_NAMED - len(self.named)]]
            return
        checksum, size, *_ = group[0]
        if checksum == self.last:  # began in the portion before
            return
        self.last = checksum
        self.contents += 1
        self.bytes += size
        self.new += done != "had"
        self.new_bytes += size if done != "had" else 0
        self.linked += done == "linked"


def make(dsn: str, config: Config, backups: Backups, keep: int, verify: bool = False) -> Made:
    """Make a backup, then remove all but the newest `keep`. `verify`: read all contents, and replace damaged ones.

    Raises Refused, NoClients, OSError, psycopg.Error.
    """
    root = os.path.realpath(config.artifacts.storage_path)
    backups.ensure_apart(root)
    with ExitStack() as lock:
        with _held(dsn) as guard, connected(dsn, snapshot=True) as reader, _room_explained(backups):
            programs = find_clients(reader.info.server_version // 10_000, config.database.programs)
            state = one(reader, SQL.backup.snapshot)
            _ensure_own(root, state.storage_id)
            backups.prepare(state.storage_id)
            lock.enter_context(backups.locked())
            with backups.new(state.taken_at) as folder:
                parts = {DUMP: dump(dsn, reader, state.id, programs, folder / DUMP)}
                contents = Contents(backups.contents, root, verify)
                copied, parts[LIST] = _copy(reader, contents, folder / LIST)
                contents.sync()
                _ensure_own(root, state.storage_id)
                guard.execute("")  # raises when it was lost, and with it the promise that no file is unlinked
                manifest = _manifest(reader, state, programs, copied, parts)
                write_synced(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        name = folder.name.removesuffix(PARTIAL)
        return Made(name, manifest, copied.named, _remove_old(backups, name, keep))


@contextmanager
def _held(dsn: str) -> Iterator[Connection]:
    """While it lasts, no server unlinks a file. Raises Refused while another backup does this."""
    with connected(dsn) as connection:
        try:
            connection.execute(SQL.backup.hold_removals)
        except psycopg.errors.LockNotAvailable:
            raise Refused("Another `reportd backup` of this database runs. Wait until it has ended.") from None
        yield connection


@contextmanager
def _room_explained(backups: Backups) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise Refused(
            f"{backups.folder} is full. The complete backups in it are as they were, and what was copied of this one "
            "need not be copied again. Make room, or keep fewer with --keep."
        ) from error


def _manifest(reader: Connection, state: Any, programs: Clients, copied: _Copied, parts: dict[str, Part]) -> Manifest:
    rows = Rows(state.suite_runs, state.test_case_results, state.test_step_results, state.test_artifacts)
    files = Files(*(getattr(copied, name) for name in Files.__struct_fields__))
    postgres = reader.info.server_version // 10_000
    facts = (FORMAT, __version__, state.taken_at, state.storage_id, postgres, programs.major, state.migrations)
    return Manifest(*facts, rows, files, parts)


def _copy(reader: Connection, contents: Contents, path: Path) -> tuple[_Copied, Part]:
    """Add the contents of all artifacts, and write the list of those that have one."""
    copied = _Copied()
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="backup")
    try:
        with create(path) as file:
            with gzip.GzipFile("", "wb", 1, file, 0) as lines:
                for groups in _portions(reader, copied):
                    for group, done in zip(groups, threads.map(contents.add, groups), strict=True):
                        copied.count(group, done)
                        for listed in group if done != "missing" else ():
                            write_line(lines, listed)
            file.flush()
            os.fsync(file.fileno())
    finally:
        threads.shutdown(cancel_futures=True)
    with path.open("rb") as file:
        return copied, Part(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _portions(reader: Connection, copied: _Copied) -> Iterator[list[list[Listed]]]:
    """The artifacts of the snapshot, those with equal bytes together, a portion at a time."""
    with reader.cursor("files") as cursor:
        cursor.execute(SQL.backup.files)
        while rows := cursor.fetchmany(_PORTION):
            listed = [Listed(row.checksum, row.file_size, str(row.project_id), row.storage_path) for row in rows]
            for wrong in [file for file in listed if leads_out(file.storage_path) or "\n" in file.storage_path]:
                listed.remove(wrong)  # of a row that reportd did not write
                copied.count([wrong], "missing")
            yield [list(group) for _, group in groupby(listed, key=attrgetter("checksum"))]


def _remove_old(backups: Backups, made: str, keep: int) -> list[str]:
    """Remove the oldest backups, and then the contents that no other has."""
    names = backups.names()
    old, kept = names[:-keep], names[-keep:]
    if not old:
        return []
    try:
        for name in kept:  # with a damaged list, needed contents could be removed
            read_manifest(backups.folder / name, LIST)
    except Refused as error:
        raise Refused(f"The backup {made} was made. But no older one was removed: {error}") from None
    for name in old:
        backups.remove(name)
    prune(backups.contents, [backups.folder / name / LIST for name in kept])
    return old


def _ensure_own(root: str, storage_id: UUID | None) -> None:
    """Raise Refused unless the storage folder is there and the database's: else all its files would be missing."""
    if storage_id is None:
        raise Refused("No server has used this database yet: there is nothing to back up. Start the server once.")
    found = read_marker(Path(root))
    if found is None:
        raise Refused(f"{root} is not this database's storage folder: it has no file {MARKER}. Is its disk mounted?")
    if found != storage_id:
        raise Refused(f"{root} is the storage folder of another database. Correct [artifacts] storage_path or the DSN.")
