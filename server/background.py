"""Work beside the requests. What fails is logged and begun again: a task that raised would be dead without a word."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

LOG = logging.getLogger("reportd")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


@contextlib.asynccontextmanager
async def running(name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Meanwhile `work()` runs, until it returns. When it raises it is run again, after ever longer pauses (seconds)."""
    task = asyncio.create_task(_again_and_again(name, work), name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _again_and_again(name: str, work: Callable[[], Awaitable[None]]) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await work()
        except Exception as error:
            LOG.error("%s failed and starts again in %g s: %r", name, pause, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
