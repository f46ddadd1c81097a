"""Background tasks: a task that fails is logged and restarted; and large work runs in a thread."""

import asyncio
import gc
import threading

import pytest

from server import background
from server.background import aside, running


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.001)


async def test_a_task_that_fails_is_logged_and_restarted(caplog):
    started, done = [], asyncio.Event()

    async def work():
        started.append(1)
        if len(started) < 4:
            raise ZeroDivisionError("again")
        done.set()
        await asyncio.sleep(60)

    async with running("the counting", work):
        async with asyncio.timeout(10):
            await done.wait()
    assert len(started) == 4
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(messages) == 3 and all("the counting failed" in text and "again" in text for text in messages)


async def test_a_task_that_returns_is_not_restarted():
    started = []

    async def work():
        started.append(1)

    async with running("x", work):
        await asyncio.sleep(0.05)
    assert started == [1]


async def test_a_task_is_cancelled_when_its_block_ends():
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(ZeroDivisionError):
        async with running("x", work):
            await asyncio.sleep(0)
            raise ZeroDivisionError
    assert ended.is_set()


async def test_the_sweeper_logs_a_lasting_failure_once(start, monkeypatch, caplog):
    from server import app
    from server.storage.folder import Storage
    from server.storage.free_space import FreeSpace

    reasons, calls = iter(["gone"] * 5 + ["full"] * 5), []

    async def tidy(self):
        calls.append(next(reasons, None))
        if calls[-1]:
            raise OSError(calls[-1])

    async def measure_growth(self, pool):
        if calls[-1]:
            raise OSError(calls[-1])  # as tidy() in the same sweep

    monkeypatch.setattr(app, "_SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(Storage, "tidy", tidy)
    monkeypatch.setattr(FreeSpace, "measure_growth", measure_growth)
    await start()
    async with asyncio.timeout(120):
        while len(calls) < 12:
            await asyncio.sleep(0.01)
    failures = [text for text in caplog.messages if "clean-up" in text]
    before = "a clean-up job failed, the next sweep runs it again: "
    assert failures == [f"{before}OSError('gone')", f"{before}OSError('full')"]


async def test_one_of_several_processes_sweeps_for_all(start, monkeypatch, rows):
    """Each further process would sum up the same rows again."""
    from server import app
    from server.services import SERVICES

    sums, drained = [], []
    real = app.usage.count

    async def count(pool):
        sums.append(pool)
        await real(pool)

    async def measure_growth(self, pool):
        drained.append(pool)  # each process does this for itself, after the jobs for all

    monkeypatch.setattr(app.usage, "count", count)
    monkeypatch.setattr(app.FreeSpace, "measure_growth", measure_growth)
    clients = await asyncio.gather(*(start() for _ in range(4)))
    pools = {client.app[SERVICES].pool for client in clients}

    async def swept(times: int) -> None:
        async with asyncio.timeout(60):
            while len(drained) < times:
                await asyncio.sleep(0.01)

    await swept(4)
    assert len(sums) == 1 and set(drained) == pools
    for seconds, number in ((539, 1), (541, 2)):  # of the 600 between two sweeps of a process
        rows("UPDATE sweeps SET began_at = now() - make_interval(secs => %s)", seconds)
        for client in clients:
            client.app[SERVICES].removals.more.set()
        await swept(len(drained) + 4)
        assert len(sums) == number


async def test_a_process_learns_the_growth_soon_after_another_one_has_counted(start, monkeypatch, rows):
    """Else its metrics and its page would have no forecast until its next sweep, ten minutes later."""
    from server import app
    from server.storage import free_space

    measured = []
    real = app.FreeSpace.measure_growth

    async def measure_growth(self, pool):
        await real(self, pool)
        measured.append((await self.measure()).days is not None)

    monkeypatch.setattr(free_space, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(app.FreeSpace, "measure_growth", measure_growth)
    rows("INSERT INTO sweeps DEFAULT VALUES")  # another process has the turn
    rows("INSERT INTO counted_days (day) VALUES (current_date)")
    await start()

    async def until(condition) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)

    await until(lambda: len(measured) >= 3)
    assert not any(measured)
    rows("UPDATE counted_days SET counted_at = now()")
    await until(lambda: measured[-1])
    count = len(measured)
    await asyncio.sleep(0.1)
    assert len(measured) == count  # not again before the next sweep


async def test_a_process_that_cannot_ask_for_its_turn_does_not_take_it(start, monkeypatch, rows, caplog):
    from server import app

    sums, drained = [], []

    async def count(pool):
        sums.append(pool)

    async def measure_growth(self, pool):
        drained.append(pool)
        rows("ALTER TABLE IF EXISTS sweeps RENAME TO gone")

    monkeypatch.setattr(app, "_SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(app.usage, "count", count)
    monkeypatch.setattr(app.FreeSpace, "measure_growth", measure_growth)
    await start()
    async with asyncio.timeout(60):
        while len(drained) < 5:
            await asyncio.sleep(0.01)
    assert len(sums) == 1 and caplog.text.count("a clean-up job failed") == 1


async def test_the_server_goes_on_updating_metrics_after_a_failure(client, monkeypatch):
    """One background task of the server stands for all: they share the mechanism."""
    from server import app
    from server.services import SERVICES

    services, calls = client.app[SERVICES], []

    def observe(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(app, "_OBSERVE_SECONDS", 0.01)
    monkeypatch.setattr(services.load, "observe", observe)
    async with asyncio.timeout(10):
        while len(calls) < 5:
            await asyncio.sleep(0.01)


async def test_work_that_handles_its_cancellation_as_an_error_ends_all_the_same():
    refused = []

    async def work():
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                if refused:
                    raise
                refused.append(1)

    async with asyncio.timeout(60):
        async with running("stubborn", work):
            await asyncio.sleep(0)
    assert refused


async def test_large_work_runs_in_a_thread_without_the_garbage_collector():
    def seen():
        return threading.current_thread() is threading.main_thread(), gc.isenabled()

    assert await aside(1 << 10, seen) == (True, True)
    assert await aside(1 << 20, seen) == (False, False) and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        await aside(1 << 20, lambda: 1 // 0)
    assert gc.isenabled()
