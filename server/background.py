"""Background tasks. One that fails is logged and restarted: otherwise an exception would end it silently."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

LOG = logging.getLogger("reportd")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


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
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _restart_on_failure(name: str, work: Callable[[], Awaitable[None]]) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await work()
        except Exception as error:
            LOG.error("%s failed, restarting in %g s: %r", name, pause, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
