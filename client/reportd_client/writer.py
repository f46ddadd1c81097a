"""Appends records and files to a spool, from the process that runs the tests. Raises nothing, waits for nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Callable, Optional, Union

from reportd_client.limits import COPY_BELOW, LOW_DISK, RESERVE
from reportd_client.spool import Spool, encode
from reportd_client.system import System

PathOrBytes = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]"]
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 20

EVERYTHING, NO_PASSED_SCREENSHOTS, NO_SCREENSHOTS, ONLY_VERDICTS = range(4)
_LESS = {
    NO_PASSED_SCREENSHOTS: "only screenshots of failures are kept",
    NO_SCREENSHOTS: "no more files are kept",
    ONLY_VERDICTS: "only the results of tests are kept",
}


class Writer:
    """The writer of one process. A forked child gets a file of its own with its first record.

    `warn` is called with a sentence when less is kept because the disk is full.
    """

    def __init__(self, spool: Spool, warn: Callable[[str], None]) -> None:
        self.spool = spool
        self._warn = warn
        self._folder = str(spool.folder)
        self._files = str(spool.files)
        self._reserve = f"{self._folder}/reserve"
        self._fd: Optional[int] = None
        self._pid = 0
        self._opened = 0
        self._level = EVERYTHING
        self.lost = 0  # records that could not be written

    def reserve(self) -> None:
        """Occupy disk space that is given back when the disk is full, so that verdicts can still be written."""
        self._write_file(self._reserve, bytes(RESERVE))

    def append(self, record: dict[str, Any], verdict: bool = False) -> int:
        """Write a record: its bytes, 0 when it is lost. `verdict`: it is written even when the disk is nearly full."""
        if self._level == ONLY_VERDICTS and not verdict:
            self.lost += 1
            return 0
        line = encode(record)
        try:
            self._write(line)
        except OSError as error:
            return self._again(line, verdict, error)
        return len(line)

    def _write(self, line: bytes) -> None:
        if self._fd is None or self._pid != System.getpid():
            self._open()
        assert self._fd is not None
        if System.write(self._fd, line) != len(line):
            raise OSError(errno.ENOSPC, "No space left on device")

    def _open(self) -> None:
        pid = System.getpid()
        self._opened = self._opened + 1 if pid == self._pid else 1
        self._pid = pid
        while True:
            try:
                # O_EXCL: another process may have had this pid, in another container or before.
                name = f"{self._folder}/w-{pid}-{self._opened}.jsonl"
                self._fd = System.open(name, _FLAGS | os.O_EXCL, 0o600)
                return
            except FileExistsError:
                self._opened += 1

    def _again(self, line: bytes, verdict: bool, error: OSError) -> int:
        """After an error: give the reserve back and write a verdict into a new file, since the last line of the old
        one is torn, or the old one has reached the size that this process may write."""
        self._less(ONLY_VERDICTS, error.strerror or str(error))
        try:
            System.remove(self._reserve)
        except OSError:
            pass
        if verdict:
            try:
                self.close()
                self._write(line)
                return len(line)
            except OSError:
                pass
        self.lost += 1
        return 0

    def check_space(self) -> None:
        """Decide by the free space how much is kept. A full disk that has space again is used again."""
        try:
            free = System.disk_usage(self._folder).free
        except OSError:
            return
        self._less(sum(free < low for low in LOW_DISK), f"{free >> 20} MiB are free")

    def _less(self, level: int, reason: str) -> None:
        if level > self._level:
            self._warn(f"The disk of the spool {self._folder} is nearly full ({reason}): {_LESS[level]}")
        self._level = level

    def store(self, source: PathOrBytes, important: bool) -> dict[str, Any]:
        """Keep a file: its fields `file`, `file_size` and `mtime_ns`, or `refused` with the reason.

        Bytes and small files are copied, large files hard-linked. `important`: the file is evidence of a failure.
        """
        self.check_space()
        if self._level >= (NO_SCREENSHOTS if important else NO_PASSED_SCREENSHOTS):
            return {"refused": "The disk of the client was nearly full"}
        try:
            if isinstance(source, (bytes, bytearray, memoryview)):
                return self._store_bytes(bytes(source))
            return self._store_path(os.fspath(source))
        except FileNotFoundError:
            return {"refused": "No such file"}
        except (OSError, ValueError) as error:
            return {"refused": f"Cannot be read or kept: {getattr(error, 'strerror', None) or error}"}

    def _store_bytes(self, data: bytes) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        path = f"{self._files}/{name}"
        try:
            known = System.stat(path).st_size == len(data)
        except FileNotFoundError:
            known = False
        if not known:
            unfinished = f"{path}.{self._unique()}"
            self._write_file(unfinished, data)
            System.replace(unfinished, path)
        return {"file": name, "file_size": len(data)}

    def _store_path(self, source: str) -> dict[str, Any]:
        found = System.stat(source)
        if not stat.S_ISREG(found.st_mode):
            return {"refused": "Not a regular file"}
        if found.st_size <= COPY_BELOW:
            return self._store_bytes(self._read(source, COPY_BELOW + 1))
        name = f"link-{self._unique()}"
        try:
            System.link(source, f"{self._files}/{name}")
        except OSError:  # another file system, or one without hard links
            return self._copy(source, name)
        return {"file": name, "file_size": found.st_size, "mtime_ns": found.st_mtime_ns}

    def _read(self, source: str, at_most: int) -> bytes:
        fd = System.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            parts = []
            while at_most > 0 and (part := System.read(fd, at_most)):
                parts.append(part)
                at_most -= len(part)
            return b"".join(parts)
        finally:
            System.close(fd)

    def _copy(self, source: str, name: str) -> dict[str, Any]:
        size = 0
        out = System.open(f"{self._files}/{name}", _FLAGS | os.O_EXCL, 0o600)
        try:
            fd = System.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                while part := System.read(fd, _CHUNK):
                    size += len(part)
                    if System.write(out, part) != len(part):
                        raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                System.close(fd)
        finally:
            System.close(out)
        return {"file": name, "file_size": size}

    def _write_file(self, path: str, data: bytes) -> None:
        try:
            fd = System.open(path, _FLAGS, 0o600)
            try:
                if System.write(fd, data) != len(data):
                    raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                System.close(fd)
        except OSError:
            try:
                System.remove(path)
            except OSError:
                pass
            raise

    def _unique(self) -> str:
        return f"{System.getpid()}-{System.urandom(6).hex()}"

    def close(self) -> None:
        """Close the record file. A later record opens another one."""
        if self._fd is not None and self._pid == System.getpid():
            System.close(self._fd)
        self._fd = None


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
