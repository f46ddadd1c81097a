"""Work beside the requests: background tasks, and a thread for work that would block the event loop.

A background task that fails is logged and restarted: otherwise an exception would end it silently.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

LOG = logging.getLogger("reportd")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_CANCEL_AGAIN = 1.0

P = ParamSpec("P")
R = TypeVar("R")
_INLINE = 256 << 10  # bytes
# One thread: Python runs one at a time, and with each further one the event loop would wait longer for its turn.
_THREAD = ThreadPoolExecutor(1, "reportd-work")


def is_large(size: int) -> bool:
    """Whether work on so many bytes would hold up the event loop for longer than a few milliseconds."""
    return size > _INLINE


async def aside(size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`work(…)`, whose time grows with `size` (in bytes): in a thread when that is large, so that all other requests go
    on meanwhile."""
    if not is_large(size):
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: _without_collector(work, *args, **kwargs))


def _without_collector(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`work(…)` without Python's garbage collector. While millions of small values are decoded, it would look at all of
    them again and again, and no thread could run meanwhile: three quarters of the time for `[[],[],…]`."""
    gc.disable()
    try:
        return work(*args, **kwargs)
    finally:
        gc.enable()


@contextlib.asynccontextmanager
async def running(name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run `work()` in the background until the block ends.

    When it returns, it is not run again. When it raises, it is restarted after a pause: 1 s at first, then doubled each
    time, at most 60 s.
    """
    task = asyncio.create_task(_restart_on_failure(name, work), name=name)
    try:
        yield
    finally:
        # More than once: an error of a connection that is cancelled in the middle may take the place of the
        # cancellation. The work would handle it and go on, and the server would never end.
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_AGAIN)


async def _restart_on_failure(name: str, work: Callable[[], Awaitable[None]]) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await work()
        except Exception as error:
            LOG.error("%s failed, restarting in %g s: %r", name, pause, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
