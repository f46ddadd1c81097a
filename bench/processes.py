"""Starts and ends processes, reads their CPU time and memory from /proc, and creates temporary folders."""

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
# Without the settings of the shell that runs the benchmark: they would change what is measured.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("REPORTD_", "ARTIFACT_", "PG"))}
_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT = 90.0  # seconds


class BenchError(Exception):
    """The benchmark cannot continue. The text gives the reason."""


@dataclass
class Server:
    """A running server: its port, the root pids of its process trees, and the pid of its PostgreSQL (0: none)."""

    name: str
    port: int
    pids: list[int]
    token: str = ""
    postgres: int = 0
    storage: Path = field(default_factory=Path)

    def cpu(self) -> float:
        """CPU seconds of the server so far, without PostgreSQL."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def postgres_cpu(self) -> float:
        """CPU seconds of all PostgreSQL processes so far."""
        return cpu_seconds(self.postgres) if self.postgres else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its descendants, including those that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # the child has just ended: its parent's numbers now include it
    return sum(map(int, fields[11:15])) / _TICKS + sum(cpu_seconds(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The running child processes of a process."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, thread.read_text().split())
    return found


def memory(pid: int, key: str) -> int:
    """Memory of a process tree in bytes: VmRSS now, or VmHWM, the sum of the peaks of its processes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
    return own + sum(memory(child, key) for child in children(pid))


def reset_peak(pid: int) -> None:
    """Sets VmHWM of a process tree to its current VmRSS."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    for child in children(pid):
        reset_peak(child)


@contextmanager
def process(name: str, command: Sequence[str], environment: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
    """Runs a process inside the `with` block. A BenchError or OSError in the block gets its stderr and exit code."""
    with tempfile.TemporaryFile("w+") as errors:
        running = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**ENVIRONMENT, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C must reach only the benchmark, which then ends the process
        )
        try:
            yield running
        except (BenchError, OSError) as error:
            raise BenchError(f"{error}{_failure_output(name, running, errors)}") from error
        finally:
            _end(running)


def first_line(name: str, running: subprocess.Popen[str]) -> str:
    """Waits for the first line of output, which a server prints when it is ready."""
    assert running.stdout
    line = running.stdout.readline().strip()
    if not line:
        raise BenchError(f"{name} did not start")
    return line


def _failure_output(name: str, running: subprocess.Popen[str], errors: IO[str]) -> str:
    errors.seek(0)
    output = errors.read()[-2000:].strip()
    code = running.poll()
    ended = f"\n{name} ended with exit code {code}" if code is not None else ""
    return ended + (f"\nstderr of {name}: {output}" if output else "")


def _end(running: subprocess.Popen[str]) -> None:
    assert running.stdin and running.stdout
    with suppress(BrokenPipeError):
        running.stdin.close()
    try:
        running.terminate()
        running.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    finally:
        running.stdout.close()


def python(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]


def free_port() -> int:
    """A free port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def folder(need: int = 6 << 30, on_disk: bool = False) -> Iterator[Path]:
    """A temporary folder, removed after the `with` block.

    In memory when twice `need` bytes fit: write-back to a disk would disturb the measurement. Else in bench/.data.
    """
    parent = Path("/dev/shm")
    if on_disk or not (parent.is_dir() and min(_available(), shutil.disk_usage(parent).free) > 2 * need):
        parent = ON_DISK
        parent.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="reportd-bench-", dir=parent))
    path.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if parent == ON_DISK and not any(ON_DISK.iterdir()):
            ON_DISK.rmdir()


def file_system(path: Path) -> str:
    """The type of the file system of a folder, such as ext4."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
