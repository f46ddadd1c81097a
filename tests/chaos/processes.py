"""What a server's processes hold: memory and file descriptors."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.up_server import wait_for


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from family(int(child))


def memory(pid: int, key: str = "VmRSS") -> int:
    """Bytes in memory, of all of them; with VmHWM the most that each has ever had."""
    return sum(_kilobytes(each, key) for each in family(pid)) << 10


def forget_peak(pid: int) -> None:
    """VmHWM is what is in memory now."""
    for each in family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def _kilobytes(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def descriptors(pid: int) -> list[str]:
    """What is open, but for connections to the database, which the server keeps as it likes."""
    found = []
    for each in family(pid):
        for link in Path(f"/proc/{each}/fd").iterdir():
            try:
                found.append(str(link.readlink()))
            except FileNotFoundError:
                continue
    return sorted(name for name in found if not name.startswith("socket:"))


def sockets_of(port: int) -> int:
    """The connections to a port on loopback that its server has not closed."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = f"0100007F:{port:04X}"
    ended = {"06", "0A"}  # TIME_WAIT, and the listening one
    return sum(line.split()[1] == local and line.split()[3] not in ended for line in lines)


def settles(look: Callable[[], int], level: int) -> None:
    """Waits until something is down at a level again."""
    wait_for(lambda: look() <= level, lambda: f"{look()} instead of {level}")
