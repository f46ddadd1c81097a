"""Small file systems to fill, take away and freeze. They are mounted in a namespace of their own, which ends with its
last process: nothing is left mounted, also when the tests are killed."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.up_server import CHECKOUT, wait_for


class Disk:
    """A file system on which `storage` lies, and `prefix` for the command of a process that shall see it."""

    def __init__(self, folder: Path, storage: Path, holder: int) -> None:
        self._disk, self._storage = folder / "disk", storage
        self.prefix = ["nsenter", f"--mount=/proc/{holder}/ns/mnt", f"--wd={CHECKOUT}", "--"]
        root = Path(f"/proc/{holder}/root")
        self.storage = root / storage.relative_to("/")  # from here, where nothing is mounted
        self._ballast = root / self._disk.relative_to("/") / "ballast"
        self._frozen: subprocess.Popen[bytes] | None = None

    def run(self, *commands: str) -> bool:
        """Shell commands inside; whether all of them worked."""
        done = subprocess.run([*self.prefix, "sh", "-ec", "\n".join(commands)], capture_output=True, text=True)
        self.said = done.stderr
        return done.returncode == 0

    def must(self, *commands: str) -> None:
        assert self.run(*commands), self.said

    def show(self) -> None:
        """The folder is where the server looks for it."""
        self.must(f"mount --bind {_quoted(self._disk / 'files')} {_quoted(self._storage)}")

    def take_away(self) -> None:
        """As when a disk is pulled: what is open stays so, nothing is found by its name."""
        self.must(f"umount --lazy {_quoted(self._storage)}")

    def allow_writes(self, yes: bool) -> None:
        """Waits for a moment in which no file is open for writing."""
        how = "rw" if yes else "ro"
        command = f"mount -o remount,bind,{how} {_quoted(self._storage)}"
        wait_for(lambda: self.run(command), lambda: self.said)

    def use_up(self, size: int) -> None:
        """Takes so many bytes of it; `free_again` gives them back."""
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def free_again(self) -> None:
        self._ballast.unlink()

    def freeze(self) -> None:
        """Every write hangs until `thaw`, or until these tests end."""
        place = _quoted(self._disk)
        script = f"fsfreeze --freeze {place}\necho frozen\nread _ || true\nfsfreeze --unfreeze {place}"
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
    """A file system of so many bytes, with `storage` on it; `kind` is tmpfs or ext4. Skips where that is forbidden."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    (folder / "disk").mkdir()
    storage.mkdir(parents=True)
    commands = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(commands, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"ready\n"
            disk = Disk(folder, storage, holder.pid)
            _mount(disk, folder, kind, size)
            disk.show()
            try:
                yield disk
            finally:
                disk.thaw()
        finally:
            holder.stdin.close()
            holder.wait()


def _mount(disk: Disk, folder: Path, kind: str, size: int) -> None:
    place = _quoted(folder / "disk")
    if kind == "tmpfs":
        worked = disk.run(f"mount -t tmpfs -o size={size} tmpfs {place}", f"mkdir {place}/files")
    else:
        image = _quoted(folder / "image")
        make = [f"truncate --size={size} {image}", f"mkfs.ext4 -q -m 0 {image}"]
        worked = disk.run(*make, f"mount -o loop {image} {place}", f"mkdir {place}/files")
    if not worked:
        pytest.skip(f"cannot mount {kind}: {disk.said}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
