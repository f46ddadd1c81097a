"""A proxy to PostgreSQL that a test can break: listens on a loopback TCP port, forwards to a Unix socket."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Proxy:
    """Forwards bytes in its own thread until a fault is switched on."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._forwards = asyncio.Event()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def hold(self, active: bool) -> None:
        """While active, connections stay open and new ones are accepted, but no byte is forwarded.

        Held bytes are delivered late when it ends, as TCP would.
        """
        self._call(self._forwards.clear if active else self._forwards.set)

    def cut(self, refuse: bool = False) -> None:
        """Resets every connection. With `refuse`, also resets each new one until `cut()` is called without it."""

        def now() -> None:
            self._refuses = refuse
            for writer in list(self._writers):
                _reset(writer)

        self._call(now)

    def _call(self, function: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        done.wait()

    async def _serve(self, ready: threading.Event) -> None:
        self._forwards.set()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        asyncio.current_task().add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            await self._forwards.wait()
            if self._refuses:
                return _reset(writer)
            target_reader, target_writer = await asyncio.open_unix_connection(str(self._target))
            self._writers.add(target_writer)
            try:
                await asyncio.gather(self._pump(reader, target_writer), self._pump(target_reader, writer))
            finally:
                self._writers.discard(target_writer)
                target_writer.close()
        except OSError:
            _reset(writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._forwards.wait()
                writer.write(data)
                await writer.drain()
        writer.close()  # this ends the other direction, too


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_INET:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def proxied(target: Path) -> Iterator[Proxy]:
    """Runs a proxy to a Unix socket inside the `with` block."""
    proxy, ready = Proxy(target), threading.Event()

    def run() -> None:
        try:
            proxy._loop.run_until_complete(proxy._serve(ready))
        finally:
            proxy._loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        proxy._loop.call_soon_threadsafe(proxy._stop.set)
        thread.join()
