"""The one thumbnail process of this worker: started by the first image, replaced when it dies, ended when it is idle.

The server only sends it open descriptors and reads what it replies: it never decodes an image itself.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import Histogram

from server.thumbs.child import REPLY, REQUEST

_SECONDS = Histogram(
    "reportd_thumbnail_seconds",
    "Time of the thumbnail process for one image, from the request until the thumbnail or the failure",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)

_PROGRAM = str(Path(__file__).with_name("child.py"))
# Read at import, before a server binds itself to one core: the process uses the others.
_CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
# What Python may need to find its modules. Everything else stays here: the environment may contain secrets.
_PASSED_ON = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
_MAX_REPLY = 16 << 20  # bytes; more than the largest thumbnail of the noisiest image
_WINDOW = 256 << 10  # bytes that are read at once
_END_SECONDS = 5.0
_TIMES_MORE = 5


class NoThumbnail(Exception):
    """An image cannot be made smaller. The text is the reason, for the log."""


class Process:
    """One thumbnail process. It serves one image at a time. After any error it is of no use, and must be killed."""

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection

    @classmethod
    async def start(cls) -> "Process":
        """Call it on the main thread: the kernel ends the process together with the thread that started it. Raises
        OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-B", _PROGRAM, _CORES),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,  # decoders warn about whatever a hostile image contains
                    cwd="/",
                    env=_environment(os.environ),
                    process_group=0,  # a Ctrl-C in the terminal is for the server
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def wants_processor(self) -> bool:
        """Whether the process is running or could run: it waits neither for a disk nor for anything else."""
        try:
            found = Path(f"/proc/{self.pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return False
        return found.rpartition(")")[2].split()[:1] == ["R"]

    async def thumbnail(self, descriptor: int, width: int, most_height: int) -> bytes:
        """WebP of an image, see child.thumbnail. Raises NoThumbnail when the process says that there is none, and
        OSError or EOFError when it has died."""
        socket.send_fds(self._connection, [REQUEST.pack(width, most_height)], [descriptor])
        made, size = REPLY.unpack(await self._read(REPLY.size))
        if size > _MAX_REPLY:
            raise OSError("the reply of the thumbnail process is too large")
        body = await self._read(size)
        if not made:
            raise NoThumbnail(body.decode("utf-8", "replace"))
        if not is_whole(body):
            raise OSError("the reply of the thumbnail process is no WebP image")
        return body

    def kill(self) -> None:
        """End the process at once. asyncio reaps it."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def _read(self, size: int) -> bytes:
        loop, parts = asyncio.get_running_loop(), bytearray()
        while len(parts) < size:
            part = await loop.sock_recv(self._connection, min(size - len(parts), _WINDOW))
            if not part:
                raise EOFError("the thumbnail process has ended")
            parts += part
        return bytes(parts)


class Pool:
    """Makes thumbnails one after the other. `seconds`: for one image, before its process is replaced. `idle_seconds`:
    after the last image, before the process is ended.

    On a busy machine the process may wait for a processor most of the time, since it has a low priority. Then it gets
    more seconds: otherwise good images would count as failed. The kernel limits its processor time.
    """

    def __init__(self, seconds: float = 10.0, idle_seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._one = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()  # of processes that were killed
        self.process: Process | None = None

    async def thumbnail(self, descriptor: int, width: int, most_height: int) -> bytes:
        """WebP of an image. When the process dies or takes too long, tries once more with another one. Raises
        NoThumbnail."""
        async with self._one:
            if self._idle is not None:
                self._idle.cancel()
            started = time.perf_counter()
            try:
                return await self._attempt(descriptor, width, most_height)
            except (OSError, EOFError):
                try:
                    return await self._attempt(descriptor, width, most_height)
                except (OSError, EOFError) as error:
                    raise NoThumbnail(f"the thumbnail process has ended, or takes too long: {error!r}") from error
            finally:
                _SECONDS.observe(time.perf_counter() - started)
                self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._end)

    async def close(self) -> None:
        """End the process, and wait for it, unless it is stuck in a call to a disk that does not answer."""
        if self._idle is not None:
            self._idle.cancel()
        self._end()
        if self._ending:
            await asyncio.wait(self._ending, timeout=_END_SECONDS)

    async def _attempt(self, descriptor: int, width: int, most_height: int) -> bytes:
        try:
            if self.process is None:
                self.process = await Process.start()
            return await self._in_time(self.process, self.process.thumbnail(descriptor, width, most_height))
        except NoThumbnail:
            raise
        except BaseException:  # also CancelledError: the next image would get the reply to this one
            self._end()
            raise

    async def _in_time(self, process: Process, reply: Coroutine[Any, Any, bytes]) -> bytes:
        """Raises TimeoutError."""
        task = asyncio.create_task(reply)
        try:
            for _ in range(_TIMES_MORE + 1):
                await asyncio.wait({task}, timeout=self._seconds)
                if task.done():
                    return task.result()
                if not process.wants_processor:
                    break
            raise TimeoutError
        finally:
            task.cancel()
            await asyncio.wait({task})  # before the socket is closed: another one may get its descriptor

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            ending = asyncio.create_task(self.process.ended())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self.process = None


def is_whole(image: bytes) -> bool:
    """Whether the bytes are a complete WebP file, by its header: type and length (RFC 9649, 2.4)."""
    return image[:4] == b"RIFF" and image[8:12] == b"WEBP" and int.from_bytes(image[4:8], "little") + 8 == len(image)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _PASSED_ON if name in environ}
