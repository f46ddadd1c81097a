"""The threads for blocking disk calls, also on a machine that allows no more threads."""

import asyncio
import errno
import threading
from functools import partial

import pytest

from server.storage.threads import Threads
from tests.up_server import PATIENCE

CALLS = 20
FAILED = (0, 7, CALLS - 1)


@pytest.fixture
def allow(monkeypatch):
    """allow(3): from now on only three threads named sync_… can be started; each further attempt fails."""
    real, left = threading.Thread.start, 0

    def start(thread: threading.Thread) -> None:
        nonlocal left
        if thread.name.startswith("sync_"):
            if not left:
                raise RuntimeError("can't start new thread")
            left -= 1
        real(thread)

    def allow(number: int) -> None:
        nonlocal left
        left = number

    monkeypatch.setattr(threading.Thread, "start", start)
    return allow


async def run(threads: Threads, made: list[int]) -> list[int]:
    """Makes the calls, of which some fail; the numbers of those whose error was returned. Adds all to `made`."""

    def call(number: int) -> None:
        made.append(number)
        if number in FAILED:
            raise OSError(errno.EIO, str(number))

    calls = [partial(call, number) for number in range(CALLS)]
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.to_thread(threads.at_once, calls)
    assert [error and error.strerror for error in errors if error] == [str(number) for number in FAILED]
    return [number for number, error in enumerate(errors) if error]


@pytest.mark.parametrize("allowed", [0, 1, 4, 5])
async def test_calls_at_once_do_not_wait_for_threads_that_could_not_be_started(allow, allowed):
    """Before, the first call failed, and the next ones waited for ever: no upload was stored until a restart."""
    threads = Threads(5, "sync")
    allow(allowed)
    for _ in range(3):
        made: list[int] = []
        assert tuple(await run(threads, made)) == FAILED
        assert sorted(made) == list(range(CALLS))
    assert threads.end(PATIENCE)


async def test_threads_are_started_once_the_machine_allows_them(allow):
    threads = Threads(2, "sync")
    with pytest.raises(RuntimeError):
        threads.submit(threading.get_ident)
    allow(2)
    assert threads.submit(threading.get_ident).result(PATIENCE) != threading.get_ident()
    assert threads.end(PATIENCE)


async def test_a_call_that_no_thread_has_begun_is_made_by_the_caller():
    """All threads are in the calls of other uploads, on a slow disk."""
    threads, over = Threads(2, "sync"), threading.Event()
    busy = [threads.submit(over.wait, PATIENCE) for _ in range(2)]
    try:
        made: list[int] = []
        assert tuple(await run(threads, made)) == FAILED
        assert sorted(made) == list(range(CALLS))
    finally:
        over.set()
    assert all(each.result(PATIENCE) for each in busy)
    assert threads.end(PATIENCE)
    assert len(made) == CALLS  # none of them a second time


async def test_several_uploads_may_be_the_first_at_once():
    all_here = threading.Barrier(3)

    class Met(Threads):
        def _start(self) -> None:
            all_here.wait(PATIENCE)  # each of them has found that no thread is started
            super()._start()

    threads = Met(2, "sync")
    first = [asyncio.to_thread(threads.submit, threading.get_ident) for _ in range(3)]
    async with asyncio.timeout(PATIENCE):
        for future in await asyncio.gather(*first):
            assert await asyncio.wrap_future(future)
    assert threads.end(PATIENCE)
