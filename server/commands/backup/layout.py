"""The folder of backups: its parts, the manifest, and which backups in it are complete.

    .reportd-backups              the id of the storage folder that all its backups are of
    files/ab/<SHA-256>            the contents of all backups, each once
    2026-11-30T06.41.09Z/         one backup
        database.dump             of pg_dump, in its custom format
        files.gz                  the artifacts of the dump, each with its content
        manifest.json             checksums and counts

A backup is written in a folder `….partial`, which gets its name when all of it is on disk. So what was interrupted is
never taken for a backup, and takes the place of none.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import msgspec
from msgspec import Struct

from server.commands.console import Refused
from server.storage.staging import try_lock

MARKER = ".reportd-backups"
CONTENTS = "files"
DUMP, LIST, MANIFEST = "database.dump", "files.gz", "manifest.json"
FORMAT = 1
PARTIAL = ".partial"
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\dZ(-\d+)?")


class Part(Struct, frozen=True):
    """A file of a backup."""

    bytes: int
    sha256: str


class Rows(Struct, frozen=True):
    suite_runs: int
    test_case_results: int
    test_step_results: int
    test_artifacts: int


class Files(Struct, frozen=True):
    """Of the artifacts of the dump. `missing`: those whose files were not in the storage folder, or damaged.

    `contents` and `bytes` count equal contents once, `new` and `new_bytes` those that earlier backups did not have.
    """

    missing: int
    contents: int
    bytes: int
    new: int
    new_bytes: int
    linked: int


class Manifest(Struct, frozen=True):
    format: int
    reportd: str
    taken_at: datetime  # of the database's snapshot, by its clock
    storage_id: UUID
    postgres: int
    pg_dump: int
    migrations: list[str]
    rows: Rows
    files: Files
    parts: dict[str, Part]


class Backups:
    """A folder of backups. Raises Refused for a folder that is not one, OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))  # unlike resolve(), without an error for links in a circle
        self.contents = str(self.folder / CONTENTS)

    def ensure_apart(self, root: str) -> None:
        """Raise Refused when this folder is inside the storage folder, or the other way round."""
        if os.path.commonpath([self.folder, root]) in (str(self.folder), root):
            raise Refused(f"{self.folder} and the storage folder {root} must not be in one another. Choose another.")

    def names(self) -> list[str]:
        """The complete backups, oldest first."""
        found = (path.name for path in self.folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
        return sorted(found, key=lambda name: (name[:20], int(name[21:] or 0)))

    def torn(self) -> list[str]:
        """Backups that were interrupted, oldest first."""
        return sorted(path.name for path in self.folder.glob(f"*{PARTIAL}") if path.is_dir())

    def storage_id(self) -> UUID:
        """Of which storage folder the backups are. Raises Refused."""
        try:
            return UUID((self.folder / MARKER).read_text("ascii").strip())
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(f"{self.folder} is no folder of backups: there is no file {MARKER} in it.") from None
        except ValueError:
            raise Refused(f"{self.folder / MARKER} holds no id: expected one line like {UUID(int=0)}.") from None

    def prepare(self, storage_id: UUID) -> None:
        """Create the folder, or check that it is this database's. Only the owner may read it: a dump has everything."""
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"Cannot use the folder {self.folder}: {error.strerror}. Choose another one.") from None
        marker = self.folder / MARKER
        if not marker.exists():
            if any(self.folder.iterdir()):
                raise Refused(f"{self.folder} is neither empty nor a folder of backups. Choose another one.")
            self.folder.chmod(0o700)
            write_synced(marker, f"{storage_id}\n".encode())
            sync_folder(self.folder.parent)
        elif self.storage_id() != storage_id:
            raise Refused(f"{self.folder} holds backups of another database. Choose another folder.")
        (self.folder / CONTENTS).mkdir(0o700, exist_ok=True)
        sync_folder(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises Refused while another process uses the folder."""
        descriptor = try_lock(self.folder)
        if descriptor is None:
            raise Refused(f"Another `reportd backup` or `reportd restore` uses {self.folder}. Wait until it has ended.")
        try:
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def new(self, taken_at: datetime) -> Iterator[Path]:
        """A folder to write a backup in. At the end it gets its name; after an error it is removed."""
        for torn in self.torn():
            shutil.rmtree(self.folder / torn)
        first = taken_at.astimezone(UTC).strftime("%Y-%m-%dT%H.%M.%SZ")
        taken, name, number = self.names(), first, 1
        while name in taken:
            number += 1
            name = f"{first}-{number}"
        partial = self.folder / (name + PARTIAL)
        partial.mkdir(0o700)
        try:
            yield partial
            sync_folder(partial)
            partial.rename(self.folder / name)
            sync_folder(self.folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def choose(self, name: str | None) -> Path:
        """The backup of this name, by default the newest. Raises Refused."""
        self.storage_id()
        names = self.names()
        if name is not None and name not in names:
            kind = "was interrupted, and is not complete" if f"{name}{PARTIAL}" in self.torn() else "is not there"
            raise Refused(f"The backup {name} {kind}. Complete backups in {self.folder}: {', '.join(names) or 'none'}.")
        if not names:
            torn = " The only one was interrupted." if self.torn() else ""
            raise Refused(f"There is no complete backup in {self.folder}.{torn}")
        return self.folder / (name or names[-1])

    def remove(self, name: str) -> None:
        """Remove a backup. Its contents stay; see contents.prune()."""
        gone = self.folder / (name + PARTIAL)
        (self.folder / name).rename(gone)  # a crash leaves nothing that looks complete
        shutil.rmtree(gone)


def read_manifest(backup: Path, *only: str) -> Manifest:
    """The manifest, after all parts of the backup, or those named, were read and compared with it. Raises Refused."""
    try:
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(f"{backup} has no valid {MANIFEST} ({error}). Choose another backup with --backup.") from None
    if manifest.format != FORMAT:
        raise Refused(f"{backup} has format {manifest.format}, this version reads {FORMAT}. Install a newer reportd.")
    for name, part in manifest.parts.items():
        if only and name not in only:
            continue
        try:
            with (backup / name).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Refused(f"Cannot read {backup / name}: {error.strerror}.") from None
        if sha256 != part.sha256:
            raise Refused(f"{backup / name} is damaged: its SHA-256 is not that of {MANIFEST}. Choose another backup.")
    return manifest


def create(path: Path) -> IO[bytes]:
    """A new file that only its owner may read: a dump has everything, also the hashes of tokens and passwords."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write_synced(path: Path, content: bytes) -> None:
    with create(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
