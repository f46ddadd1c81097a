"""The protocol between systemd and a service: socket activation, readiness, watchdog and stop notifications.

Implements sd_listen_fds(3) and sd_notify(3). Does nothing when the process was not started by systemd.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Self

LOG = logging.getLogger("reportd.systemd")

_NAMES = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"]
_NAMES += ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_FAMILIES = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
# A busy systemd must not block the event loop for longer than this.
_SEND_TIMEOUT = 2.0  # seconds


class Service:
    """This process as a systemd service. `Service()` is a process without systemd: every method does nothing.

    `sockets`: listening sockets passed by systemd, empty without socket activation. `watchdog`: seconds between two
    watchdog pings; None when the watchdog is off.
    """

    def __init__(
        self, sockets: list[socket.socket] | None = None, address: str = "", watchdog: float | None = None
    ) -> None:
        self.sockets = sockets or []
        self.watchdog = watchdog
        self._address = address

    @classmethod
    def from_environment(cls) -> Self:
        """Read what systemd passed in the environment, and remove it from there. Raises OSError.

        Otherwise a child process would use the variables, too: gunicorn would notify systemd that the service is ready
        before any worker is.
        """
        given = {name: value for name in _NAMES if (value := os.environ.pop(name, None))}
        return cls(_sockets(given), given.get("NOTIFY_SOCKET", ""), _watchdog(given))

    def ready(self, status: str) -> None:
        """Notify systemd that requests are accepted. `systemctl status` shows `status`."""
        self._notify("READY=1", f"STATUS={status}")

    def waiting(self, status: str, seconds: float) -> None:
        """Notify systemd that the process is not ready yet, and give it `seconds` more, even beyond TimeoutStartSec."""
        self._notify(f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def ping(self) -> None:
        """Reset the watchdog timer of systemd."""
        self._notify("WATCHDOG=1")

    def stopping(self, status: str, seconds: float) -> None:
        """Notify systemd that the process is stopping and may take `seconds`, even beyond TimeoutStopSec."""
        self._notify("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    @asynccontextmanager
    async def pinging(self) -> AsyncIterator[None]:
        """Ping the watchdog from the event loop. When the loop hangs, the pings stop and systemd kills the process."""

        async def ping() -> None:
            while self.watchdog:
                self.ping()
                await asyncio.sleep(self.watchdog)

        task = asyncio.create_task(ping())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _notify(self, *lines: str) -> None:
        if not self._address:
            return
        # A leading @ means the abstract socket namespace.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_TIMEOUT)
                sock.connect(address)
                sock.sendall("\n".join(lines).encode())
        except OSError as error:
            LOG.warning("cannot send %s to systemd: %s", lines[0], error)


def _watchdog(given: Mapping[str, str]) -> float | None:
    """Seconds between two pings: half of the watchdog timeout of systemd."""
    microseconds, pid = given.get("WATCHDOG_USEC", "0"), given.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal():
        raise OSError(f"WATCHDOG_USEC is {microseconds}: it must be a number of microseconds.")
    return int(microseconds) / 2e6 or None if pid == str(os.getpid()) else None


def _sockets(given: Mapping[str, str]) -> list[socket.socket]:
    if given.get("LISTEN_PID") != str(os.getpid()):
        return []  # passed to another process, such as a parent
    count = given.get("LISTEN_FDS", "0")
    if not count.isdecimal():
        raise OSError(f"LISTEN_FDS is {count}: it must be the number of sockets that systemd passes.")
    return [_socket(descriptor) for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))]


def _socket(descriptor: int) -> socket.socket:
    wrong = f"File descriptor {descriptor}, which systemd passed, is"
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(f"{wrong} not a socket: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        raise OSError(f"{wrong} not a stream socket: use ListenStream= in the socket unit.")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(f"{wrong} not listening: use Accept=no in the socket unit.")
    return sock
