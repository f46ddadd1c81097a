"""Accepts connections: at most `[server] max_connections` in one process.

asyncio's own server accepts without a bound. Out of file descriptors, it logs an error with traceback for each of 4,096
attempts, and open connections wait meanwhile.
"""

import asyncio
import errno
import logging
import resource
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from server.config import Config

LOG = logging.getLogger("reportd")

# Descriptors that are not for connections: listening sockets, the event loop, the log, threads that walk folders.
_OTHER_DESCRIPTORS = 64
# The default for hosts with very many descriptors: each connection may hold some memory (docs/scaling.md).
_MOST_BY_DEFAULT = 4096
_AT_ONCE = 32  # connections accepted in one iteration of the event loop
_RETRY_SECONDS = 0.1
_LOG_SECONDS = 1.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Idle(Protocol):
    """A connection, as far as the acceptor sees it."""

    @property
    def idle_until(self) -> float | None:
        """When its idle timeout ends (the smallest value: idle for the longest); None while it has a request."""

    def drop(self) -> None: ...


class Server(Protocol):
    """Makes the protocol of each accepted socket, and counts the open connections."""

    @property
    def open(self) -> int: ...

    @property
    def connections(self) -> Sequence[Any]:
        """Those that are open, each an Idle."""

    def __call__(self) -> Any: ...


def raise_descriptor_limit() -> int:
    """Raise this process's limit of file descriptors to its hard value, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MOST_BY_DEFAULT * 16 if hard == resource.RLIM_INFINITY else hard


def max_connections(config: Config, descriptors: int) -> int:
    """`[server] max_connections`; when it is 0, as many as `descriptors` allow, at most 4,096.

    A connection may need two descriptors: its own, and one of the file that is sent or received.
    """
    others = _OTHER_DESCRIPTORS + config.database.pool_size
    allowed = max(1, (descriptors - others) // 2)
    wanted = config.server.max_connections
    if wanted > allowed:
        LOG.warning(
            "[server] max_connections = %d needs up to %d file descriptors, but the limit is %d: raise the limit "
            "(ulimit -n, or LimitNOFILE= of systemd)",
            wanted,
            2 * wanted + others,
            descriptors,
        )
    return wanted or min(allowed, _MOST_BY_DEFAULT)


class Acceptor:
    """Accepts connections from `sockets` for `server`, which then has at most `limit` open ones.

    At the limit, each new connection closes the one that has been idle for the longest. While none is idle, new
    connections wait in the kernel's queue. Open connections are served all the time.
    """

    def __init__(self, server: Server, sockets: Sequence[socket.socket], limit: int) -> None:
        self._server, self._sockets, self._limit = server, sockets, limit
        self._loop = asyncio.get_running_loop()
        self._setting_up: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._longest_idle: deque[tuple[float, Idle]] = deque()
        self._closed_idle = 0  # since the last log record
        self._last_log = -_LOG_SECONDS

    def start(self) -> None:
        for listening in self._sockets:
            listening.setblocking(False)
        self._resume()

    async def stop(self) -> None:
        """Close the listening sockets. Connections in the kernel's queue are accepted before, up to the limit: closing
        the socket would reset them, with requests that may have been sent. All are set up before this returns."""
        self._pause(retry=False)
        sockets, self._sockets = self._sockets, ()
        for listening in sockets:
            while self._accept_one(listening):
                pass
            listening.close()
        self._pause(retry=False)  # there was no room for one
        if self._setting_up:
            await asyncio.wait(self._setting_up)

    def _resume(self) -> None:
        self._retry = None
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _pause(self, retry: bool = True) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(_RETRY_SECONDS, self._resume) if retry else None

    def _accept(self, listening: socket.socket) -> None:
        """Called when a connection waits at this socket. Another worker may take it first."""
        for _ in range(_AT_ONCE):
            if not self._accept_one(listening):
                return

    def _accept_one(self, listening: socket.socket) -> bool:
        """Take one from the kernel's queue. False: none waits, or there is no room for it, and accepting pauses."""
        full = self._server.open + len(self._setting_up) >= self._limit
        if full and self._find_longest_idle() is None:
            self._log("none of them is idle, so new connections wait")
            self._pause()
            return False
        try:
            accepted, _ = listening.accept()
        except ConnectionAbortedError:
            return True
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._close_longest_idle()
            self._log(f"accepting another one failed: {error.strerror}")
            self._pause()
            return False
        if full:
            self._close_longest_idle()
            self._log("each new connection closes the one that has been idle for the longest")
        task = self._loop.create_task(self._set_up(accepted))
        self._setting_up.add(task)
        task.add_done_callback(self._setting_up.discard)
        return True

    async def _set_up(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._server, accepted)
        except OSError as error:
            LOG.debug("setting up a connection failed: %r", error)
            accepted.close()

    def _find_longest_idle(self) -> Idle | None:
        """The connection that has been idle for the longest. The sorted list is made anew only when it is used up: all
        connections that became idle meanwhile have been idle for less time."""
        for again in (False, True):
            while self._longest_idle:
                until, connection = self._longest_idle[0]
                if connection.idle_until == until:
                    return connection
                self._longest_idle.popleft()
            if not again:
                idle = [(each.idle_until, each) for each in self._server.connections]
                found = [(until, each) for until, each in idle if until is not None]
                self._longest_idle.extend(sorted(found, key=lambda pair: pair[0]))
        return None

    def _close_longest_idle(self) -> None:
        if (connection := self._find_longest_idle()) is not None:
            self._longest_idle.popleft()
            self._closed_idle += 1
            connection.drop()

    def _log(self, what: str) -> None:
        """At most one record a second: an attacker must not fill the disk with the log."""
        now = self._loop.time()
        if now - self._last_log >= _LOG_SECONDS:
            LOG.warning(
                "%d connections are open ([server] max_connections: %d): %s. Closed since the last record: %d",
                self._server.open,
                self._limit,
                what,
                self._closed_idle,
            )
            self._last_log, self._closed_idle = now, 0
