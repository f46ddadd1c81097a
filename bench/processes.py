"""Processes of the bench: started, read (CPU time, memory) and ended; folders for them, removed in the end."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

CHECKOUT = Path(__file__).parent.parent
ON_DISK = CHECKOUT / "bench" / ".data"
# What the shell that runs the bench has set must not change what is measured.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("REPORTD_", "ARTIFACT_", "PG"))}
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 90.0  # seconds to start or to end


class BenchError(Exception):
    """The bench cannot go on; the text says what happened."""


@dataclass
class Server:
    """A running server: where it listens, its process trees, and the PostgreSQL that it uses."""

    name: str
    port: int
    pids: list[int]
    token: str = ""
    postgres: int = 0
    storage: Path = field(default_factory=Path)

    def cpu(self) -> float:
        """CPU seconds so far, without PostgreSQL."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def postgres_cpu(self) -> float:
        """CPU seconds of its PostgreSQL so far, all its processes."""
        return cpu_seconds(self.postgres) if self.postgres else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time that a process and all below it have used, those that have ended too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # a child that ended just now is in its parent's figures
    return sum(map(int, fields[11:15])) / _TICKS + sum(cpu_seconds(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, thread.read_text().split())
    return found


def memory(pid: int, key: str) -> int:
    """Bytes that a process and all below it hold (VmRSS), or held at most (VmHWM, the sum of each one's)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
    return own + sum(memory(child, key) for child in children(pid))


def forget_peak(pid: int) -> None:
    """Sets VmHWM of a process and all below it to what they hold now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    for child in children(pid):
        forget_peak(child)


@contextmanager
def process(name: str, command: Sequence[str], environment: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
    """A process for the while. What it says on stderr is part of the error when it ends by itself, or badly."""
    with tempfile.TemporaryFile("w+") as errors:
        running = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**ENVIRONMENT, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the bench, which then ends it
        )
        try:
            yield running
        except (BenchError, OSError) as error:
            raise BenchError(f"{error}{_last_words(name, running, errors)}") from error
        finally:
            _end(running)


def first_line(name: str, running: subprocess.Popen[str]) -> str:
    """What a process says when it is ready."""
    assert running.stdout
    line = running.stdout.readline().strip()
    if not line:
        raise BenchError(f"{name} did not start")
    return line


def _last_words(name: str, running: subprocess.Popen[str], errors: IO[str]) -> str:
    errors.seek(0)
    said = errors.read()[-2000:].strip()
    code = running.poll()
    ended = f"\n{name} ended with {code}" if code is not None else ""
    return ended + (f"\n{name} said: {said}" if said else "")


def _end(running: subprocess.Popen[str]) -> None:
    assert running.stdin and running.stdout
    with suppress(BrokenPipeError):
        running.stdin.close()
    try:
        running.terminate()
        running.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    finally:
        running.stdout.close()


def python(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules."""
    return [sys.executable, "-m", module, *arguments]


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def folder(need: int = 6 << 30, on_disk: bool = False) -> Iterator[Path]:
    """A folder for the while: in memory where `need` bytes fit twice, so that write-back blurs nothing."""
    memory_folder = Path("/dev/shm")
    if on_disk or not (memory_folder.is_dir() and min(_available(), shutil.disk_usage(memory_folder).free) > 2 * need):
        memory_folder = ON_DISK
        memory_folder.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="reportd-bench-", dir=memory_folder))
    path.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if memory_folder == ON_DISK and not any(ON_DISK.iterdir()):
            ON_DISK.rmdir()


def file_system(path: Path) -> str:
    """The kind of file system that a folder lies on, like ext4."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
