"""What systemd and a service tell each other: the sockets it listens on, and that it is ready, alive or stopping.

Speaks sd_listen_fds(3) and sd_notify(3) by itself, and does nothing at all where no systemd is.
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
_FIRST = 3
_FAMILIES = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
# What is said to systemd must not hold the event loop up for long when systemd is busy.
_PATIENCE_SECONDS = 2.0


class Service:
    """This process as a service: `sockets` that it is to listen on, none without socket activation.

    `Service()` is one that nobody watches. `watchdog` is how often, in seconds, it must say that it is alive; None:
    nobody waits for that.
    """

    def __init__(
        self, sockets: list[socket.socket] | None = None, address: str = "", watchdog: float | None = None
    ) -> None:
        self.sockets = sockets or []
        self.watchdog = watchdog
        self._address = address

    @classmethod
    def taken(cls) -> Self:
        """What systemd gave to this process. Raises OSError with a sentence.

        It is taken out of the environment: a child process must not think that it is meant, and gunicorn, which
        looks there too, must not say that all is ready when nothing is.
        """
        given = {name: value for name in _NAMES if (value := os.environ.pop(name, None))}
        return cls(_sockets(given), given.get("NOTIFY_SOCKET", ""), _watchdog(given))

    def ready(self, status: str) -> None:
        """Requests are accepted. `status` is for people, in `systemctl status`."""
        self._say("READY=1", f"STATUS={status}")

    def alive(self) -> None:
        """Puts the watchdog off."""
        self._say("WATCHDOG=1")

    def stopping(self, status: str, seconds: float) -> None:
        """It ends by itself, after `seconds` at the latest, whatever TimeoutStopSec is."""
        self._say("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Meanwhile the event loop says that it is alive, for as long as it moves."""

        async def say() -> None:
            while self.watchdog:
                self.alive()
                await asyncio.sleep(self.watchdog)

        task = asyncio.create_task(say())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        # A leading @ is the abstract namespace.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_PATIENCE_SECONDS)
                sock.connect(address)
                sock.sendall("\n".join(lines).encode())
        except OSError as error:
            LOG.warning("systemd does not take %s: %s", lines[0], error)


def _watchdog(given: Mapping[str, str]) -> float | None:
    """Half of the time after which systemd takes us for stuck."""
    microseconds, pid = given.get("WATCHDOG_USEC", "0"), given.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal():
        raise OSError(f"WATCHDOG_USEC is {microseconds}: it must be a number of microseconds.")
    return int(microseconds) / 2e6 or None if pid == str(os.getpid()) else None


def _sockets(given: Mapping[str, str]) -> list[socket.socket]:
    if given.get("LISTEN_PID") != str(os.getpid()):
        return []  # meant for a parent
    count = given.get("LISTEN_FDS", "0")
    if not count.isdecimal():
        raise OSError(f"LISTEN_FDS is {count}: it must be the number of sockets that systemd passes.")
    return [_socket(descriptor) for descriptor in range(_FIRST, _FIRST + int(count))]


def _socket(descriptor: int) -> socket.socket:
    wrong = f"File descriptor {descriptor}, which systemd passed, is"
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(f"{wrong} no socket: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        raise OSError(f"{wrong} no stream socket: use ListenStream= in the socket unit.")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(f"{wrong} not listening: use Accept=no in the socket unit.")
    return sock
