"""Threads for calls that wait for a disk, which may never answer."""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def in_thread(work: Callable[[], R]) -> Future[R]:
    """`work` in a thread of its own, which does not keep the process from ending."""
    threads = Threads(1, "reportd")
    future = threads.submit(work)
    threads.end(0)
    return future


class Threads(Executor):
    """A fixed number of threads that work off one queue; they start with the first call.

    They are daemons: when it ends, Python joins those of its ThreadPoolExecutor, and a process would not end as long
    as one of them waits for a disk.
    """

    def __init__(self, number: int, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, args=(n,), name=f"{name}_{n}", daemon=True) for n in range(number)]
        self._started = False
        self._began: dict[int, float] = {}  # of the threads that are in a call, since when

    def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """`work(*args)`, to be done by the next thread that is free."""
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()
        future: Future[R] = Future()
        self._calls.put((future, partial(work, *args, **kwargs)))
        return future

    def stuck(self, seconds: float) -> bool:
        """Whether every thread has been in its call for longer than that."""
        if len(self._began) < len(self._threads):
            return False
        latest = time.monotonic() - seconds
        return all(began < latest for began in tuple(self._began.values()))

    def end(self, seconds: float) -> bool:
        """Lets them end once the queue is worked off. Whether they have, after `seconds` at the latest. Blocking."""
        if not self._started:
            return True
        deadline = time.monotonic() + seconds
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

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
            del call, future, work  # while it waits for the next one, nothing of this one is kept
            result = None
