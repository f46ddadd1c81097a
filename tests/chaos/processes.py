"""The memory, file descriptors and connections of a server's processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.up_server import wait_for


def process_tree(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from process_tree(int(child))


def memory(pid: int, key: str = "VmRSS") -> int:
    """Resident memory of the process tree in bytes; with VmHWM the sum of the peaks of its processes."""
    return sum(_kilobytes(each, key) for each in process_tree(pid)) << 10


def reset_peak(pid: int) -> None:
    """Sets VmHWM to the current VmRSS."""
    for each in process_tree(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def _kilobytes(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def descriptors(pid: int) -> list[str]:
    """The open files of the process tree, without sockets: the number of database connections varies."""
    found = []
    for each in process_tree(pid):
        for link in Path(f"/proc/{each}/fd").iterdir():
            try:
                found.append(str(link.readlink()))
            except FileNotFoundError:
                continue
    return sorted(name for name in found if not name.startswith("socket:"))


def sockets_of(port: int) -> int:
    """How many connections to a loopback port its server has not closed."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = f"0100007F:{port:04X}"
    ended = {"06", "0A"}  # TIME_WAIT and LISTEN
    return sum(line.split()[1] == local and line.split()[3] not in ended for line in lines)


def wait_until_at_most(measure: Callable[[], int], level: int) -> None:
    """Waits until the measured value has fallen to `level`."""
    wait_for(lambda: measure() <= level, lambda: f"{measure()} instead of {level}")
