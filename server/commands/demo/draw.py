"""Draws the demo's pictures in other processes, while the demo is being sent."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import connection, get_context, parent_process

from server.commands.demo import shop
from server.commands.demo.scene import Scene

Draw = Callable[[Scene], Awaitable[bytes]]
_PROCESSES = 2


class Pictures:
    """Draws each scene once."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._drawn: dict[Scene, asyncio.Future[bytes]] = {}

    async def __call__(self, scene: Scene) -> bytes:
        if scene not in self._drawn:
            self._drawn[scene] = asyncio.wrap_future(self._submit(scene))
        return await self._drawn[scene]

    def _submit(self, scene: Scene) -> Future[bytes]:
        """May start a process. Ctrl-C reaches it, too: it inherits the blocked signal, and so prints no traceback."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._executor.submit(shop.picture, scene)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@asynccontextmanager
async def drawing() -> AsyncIterator[Pictures]:
    """Ends the processes when the block ends."""
    # Spawned: a process that is forked from one with threads may start with a lock that nobody releases.
    executor = ProcessPoolExecutor(_PROCESSES, get_context("spawn"), _end_with_parent)
    try:
        yield Pictures(executor)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """Without this, a drawing process would wait forever when its parent is killed."""
    parent = parent_process()
    if parent is not None:
        waiting = threading.Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(0)), daemon=True)
        waiting.start()
