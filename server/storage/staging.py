"""The staging folders: one for each process, named by the id of its row in `instances`.

When a process is killed, others remove its folder. A lock (flock) shows that it lives. But a free lock proves its death
only to processes under the same kernel that use the same mount: on network file systems each kernel, and with FUSE each
mount, has locks of its own. Nor does a host name prove anything: two containers may have the same. For all others the
row decides, which a living process renews every few seconds.
"""

import errno
import fcntl
import logging
import math
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from uuid import UUID, uuid4

from server.storage.clock import file_system_time
from server.storage.paths import STAGING

LOG = logging.getLogger("reportd.storage")

_HOUR = 3600.0
_DAY = 24 * _HOUR
_TRIES = 100
_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """A mount under one running kernel: where a lock on a folder is seen by all processes."""

    boot_id: str
    device: int


@dataclass(frozen=True, slots=True)
class Instance:
    """A process by its row. `quiet`: seconds since it has renewed the row, by the database's clock."""

    id: UUID
    place: Place
    quiet: float


class Staging:
    """The folder of this process, locked until close() or its end. `place` is set by open(). Blocking."""

    place: Place

    def __init__(self, root: Path) -> None:
        self.id = uuid4()
        self.folder = root / STAGING / self.id.hex
        self._lock: int | None = None
        self._making = Lock()

    def open(self) -> None:
        """Creates and locks the folder. Raises OSError."""
        for _ in range(_TRIES):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock = try_lock(self.folder)
            if self._lock is not None:
                self.place = place_of(self.folder.parent)
                return
            time.sleep(_PAUSE)  # another process was removing the folder of this name, which was not locked yet
        raise OSError(errno.EBUSY, "another process holds the lock", self.folder)

    def make_anew(self) -> None:
        """Creates and locks the folder again, after somebody has removed it. Raises OSError."""
        with self._making:  # several threads may find at once that it is gone
            if self.folder.is_dir():
                return
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            self.open()
            LOG.warning("the staging folder %s had been removed; it was made anew", self.folder)

    def close(self) -> None:
        """Removes the folder, if there is one."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            shutil.rmtree(self.folder, ignore_errors=True)


def place_of(folder: Path) -> Place:
    """The mount that this process uses for a folder. Raises OSError."""
    return Place(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(), folder.stat().st_dev)


def required_age(instance: Instance | None, here: Place, trusts_rows: bool = True) -> float:
    """The seconds without a change after which staged files may be removed, if nobody here holds their folder's lock.

    0 when their process has ended, infinite while it may live. A day without a row: the process may be of an older
    version, be a command, or have had no database since it started. Only with `trusts_rows` an old row is a proof.
    """
    if instance is None:
        return _DAY
    if instance.place == here:
        return 0.0
    return 0.0 if trusts_rows and instance.quiet > _HOUR else math.inf


def sweep(own: Staging, instances: Iterable[Instance], trusts_rows: bool) -> None:
    """Removes the staging folders of processes that have ended. Raises OSError when the disk is away."""
    here, now = place_of(own.folder.parent), file_system_time(str(own.folder))
    known = {instance.id: instance for instance in instances}
    for folder, id in _folders(own.folder.parent):
        if id == own.id:
            continue
        with suppress(OSError):  # another process removes it, too
            latest = now - required_age(known.get(id) if id else None, here, trusts_rows)
            if latest > -math.inf and _changed(folder) <= latest and _remove(folder):
                LOG.info("removed %s: its process has ended", folder)


def folder_of(path: str) -> tuple[str, UUID | None] | None:
    """The staging folder of a staged file, relative as the file's path, and the id of its process.

    None for every other path. The id is None below `.staging/<host>-<boot>/`, where versions up to 0.2.0 had the
    folders of their processes.
    """
    top, *parts = path.split("/")
    if top != STAGING:
        return None
    if len(parts) > 1 and (id := _id(parts[0])):
        return f"{top}/{parts[0]}", id
    return ("/".join([top, *parts[:2]]), None) if len(parts) > 2 else None


def try_lock(folder: Path) -> int | None:
    """Locks a folder until the returned descriptor is closed or this process ends.

    None when another process holds the lock, or the folder does not exist any more.
    """
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if error.errno not in {errno.EWOULDBLOCK, errno.ENOENT}:
            raise
        return None
    return descriptor


def _folders(top: Path) -> Iterator[tuple[Path, UUID | None]]:
    """The staging folders, and the ids of their processes. Of those of older versions, only the ones with this host's
    name: one of another host may be in use although nothing has changed in it for long, and then nothing replaces it.
    """
    ours = f"{socket.gethostname()}-"
    for found in list(top.iterdir()):
        if id := _id(found.name):
            yield found, id
        elif found.name.startswith(ours) and len(found.name) == len(ours) + 8:
            for folder in list(found.iterdir()):
                yield folder, None
            with suppress(OSError):  # not empty
                found.rmdir()


def _id(name: str) -> UUID | None:
    """The id in the name of a staging folder; None for other names."""
    with suppress(ValueError):
        id = UUID(name)
        return id if id.hex == name else None
    return None


def _changed(folder: Path) -> float:
    """When the folder or a file in it changed last, by the file system's clock. Raises OSError."""
    with os.scandir(folder) as entries:
        return max([folder.stat().st_ctime, *(entry.stat(follow_symlinks=False).st_ctime for entry in entries)])


def _remove(folder: Path) -> bool:
    """Removes a folder unless somebody holds its lock."""
    descriptor = try_lock(folder)
    if descriptor is None:
        return False
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True
