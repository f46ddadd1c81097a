"""Small file systems that a test can fill, unmount and freeze.

They are mounted in a separate mount namespace. The kernel removes it with its last process, so nothing stays mounted
even when the tests are killed.
"""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.up_server import CHECKOUT, wait_for


class Namespace:
    """A mount namespace and a host name of its own. Prepend `prefix` to the command of a process that must be in it."""

    def __init__(self, holder: int) -> None:
        self.prefix = ["nsenter", f"--mount=/proc/{holder}/ns/mnt", f"--uts=/proc/{holder}/ns/uts"]
        self.prefix += [f"--wd={CHECKOUT}", "--"]
        self._root = Path(f"/proc/{holder}/root")

    def outside(self, path: Path) -> Path:
        """The path by which processes outside of the namespace see a file that is mounted in it."""
        return self._root / path.relative_to("/")

    def run(self, *commands: str) -> bool:
        """Runs shell commands inside the namespace. False when one failed; its stderr is then in `error`."""
        done = subprocess.run([*self.prefix, "sh", "-ec", "\n".join(commands)], capture_output=True, text=True)
        self.error = done.stderr
        return done.returncode == 0

    def run_or_fail(self, *commands: str) -> None:
        assert self.run(*commands), self.error


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace, until the block ends. Skips the test where mounting is not permitted."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    commands = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(commands, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"ready\n"
            yield Namespace(holder.pid)
        finally:
            holder.stdin.close()
            holder.wait()


class Disk:
    """A file system that holds `storage`. Prepend `prefix` to the command of a process that must see it."""

    def __init__(self, folder: Path, storage: Path, own: Namespace) -> None:
        self._disk, self._storage, self._own = folder / "disk", storage, own
        self.prefix = own.prefix
        self.storage = own.outside(storage)  # the path outside the namespace, where it is not mounted
        self._ballast = own.outside(self._disk) / "ballast"
        self._frozen: subprocess.Popen[bytes] | None = None

    def attach(self) -> None:
        """Mounts the file system at the server's storage path."""
        self._own.run_or_fail(f"mount --bind {_quoted(self._disk / 'files')} {_quoted(self._storage)}")

    def detach(self) -> None:
        """Like a pulled disk: open file descriptors stay open, but no path can be opened any more."""
        self._own.run_or_fail(f"umount --lazy {_quoted(self._storage)}")

    def allow_writes(self, yes: bool) -> None:
        """Remounts read-write or read-only. Retries: read-only fails while a file is open for writing."""
        how = "rw" if yes else "ro"
        command = f"mount -o remount,bind,{how} {_quoted(self._storage)}"
        wait_for(lambda: self._own.run(command), lambda: self._own.error)

    def occupy(self, size: int) -> None:
        """Allocates this many bytes of the disk until `release`."""
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def release(self) -> None:
        self._ballast.unlink()

    def freeze(self) -> None:
        """Blocks every write until `thaw`, or until the test process ends."""
        mount_point = _quoted(self._disk)
        script = f"fsfreeze --freeze {mount_point}\necho frozen\nread _ || true\nfsfreeze --unfreeze {mount_point}"
        self._frozen = subprocess.Popen(
            [*self.prefix, "sh", "-ec", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._frozen.stdout.readline() == b"frozen\n"

    def thaw(self) -> None:
        if self._frozen is not None:
            self._frozen.communicate()
            assert self._frozen.returncode == 0
            self._frozen = None


@contextmanager
def mounted(folder: Path, storage: Path, kind: str, size: int) -> Iterator[Disk]:
    """Mounts a file system of `size` bytes that holds `storage`; `kind` is tmpfs or ext4.

    Skips the test where mounting is not permitted.
    """
    with namespace() as own:
        (folder / "disk").mkdir()
        storage.mkdir(parents=True)
        disk = Disk(folder, storage, own)
        _mount(own, folder, kind, size)
        disk.attach()
        try:
            yield disk
        finally:
            disk.thaw()


def _mount(own: Namespace, folder: Path, kind: str, size: int) -> None:
    mount_point = _quoted(folder / "disk")
    if kind == "tmpfs":
        worked = own.run(f"mount -t tmpfs -o size={size} tmpfs {mount_point}", f"mkdir {mount_point}/files")
    else:
        image = _quoted(folder / "image")
        make = [f"truncate --size={size} {image}", f"mkfs.ext4 -q -m 0 {image}"]
        worked = own.run(*make, f"mount -o loop {image} {mount_point}", f"mkdir {mount_point}/files")
    if not worked:
        pytest.skip(f"cannot mount {kind}: {own.error}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
