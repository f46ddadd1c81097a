"""A thread pool for blocking disk calls, which may never return."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def in_thread(work: Callable[[], R]) -> Future[R]:
    """Runs `work` in a daemon thread of its own, which does not keep the process alive."""
    threads = Threads(1, "reportd")
    future = threads.submit(work)
    threads.end(0)
    return future


async def result_of(call: Future[R], seconds: float) -> R:
    """The result of a call, awaited on the event loop. Raises TimeoutError after `seconds`. A call that has not started
    when this raises is cancelled.

    asyncio.timeout() with wrap_future() does the same, and costs a fourth of a call more.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _end, ended, TimeoutError)
    call.add_done_callback(partial(_wake, loop, ended))
    try:
        await ended
    except BaseException:
        call.cancel()
        raise
    finally:
        timer.cancel()
    return call.result()


def _wake(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], _: Future[Any]) -> None:
    with suppress(RuntimeError):  # the loop was closed: this call took longer than the shutdown
        loop.call_soon_threadsafe(_end, ended)


def _end(ended: asyncio.Future[None], error: type[Exception] | None = None) -> None:
    if not ended.done():
        ended.set_result(None) if error is None else ended.set_exception(error())


class Threads(Executor):
    """An executor with one queue and a fixed number of daemon threads, which start with the first call.

    Not a ThreadPoolExecutor: Python joins its threads at exit, so a thread that waits for a stalled disk would keep the
    process from ending.
    """

    def __init__(self, number: int, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, args=(n,), name=f"{name}_{n}", daemon=True) for n in range(number)]
        self._starting, self._started = Lock(), False
        self._began: dict[int, float] = {}  # when each thread that is in a call began it (monotonic)

    def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queues `work(*args)` for the next free thread. Raises RuntimeError when the machine allows no thread."""
        if not self._started:
            self._start()
        future: Future[R] = Future()
        self._calls.put((future, partial(work, *args, **kwargs)))
        return future

    def at_once(self, calls: Sequence[Callable[[], None]]) -> list[OSError | None]:
        """Runs the calls at the same time, the last one in the calling thread, which then also runs those that no other
        thread has begun. Returns the error of each. Blocks."""
        if not calls:
            return []
        try:
            queued = [(self.submit(_error_of, call), call) for call in calls[:-1]]
        except RuntimeError:
            return [_error_of(call) for call in calls]
        own = _error_of(calls[-1])
        return [*(_error_of(call) if future.cancel() else future.result() for future, call in queued), own]

    def stuck(self, seconds: float) -> bool:
        """Whether every thread has been in its call for longer than this."""
        if len(self._began) < len(self._threads):
            return False
        latest = time.monotonic() - seconds
        return all(began < latest for began in tuple(self._began.values()))

    def end(self, seconds: float) -> bool:
        """Ends the threads once the queue is empty. Blocks for at most `seconds`; whether all have ended by then."""
        if not self._started:
            return True
        deadline = time.monotonic() + seconds
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _start(self) -> None:
        """Starts the threads, or some of them when the machine allows no more."""
        with self._starting:
            if self._started:
                return
            for number, thread in enumerate(self._threads):
                try:
                    thread.start()
                except RuntimeError:
                    if not number:
                        raise
                    del self._threads[number:]
                    break
            self._started = True

    def _work(self, number: int) -> None:
        result: Any = None
        while (call := self._calls.get()) is not None:
            future, work = call
            if future.set_running_or_notify_cancel():
                self._began[number] = time.monotonic()
                try:
                    result = work()
                except BaseException as error:
                    self._began.pop(number)
                    future.set_exception(error)
                else:
                    self._began.pop(number)
                    future.set_result(result)
            del call, future, work  # otherwise an idle thread would keep the objects of its last call alive
            result = None


def _error_of(call: Callable[[], None]) -> OSError | None:
    try:
        call()
    except OSError as error:
        return error
    return None
