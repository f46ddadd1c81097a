"""The library for asyncio: the same records, and nothing that waits in the event loop."""

import asyncio
import functools
import threading

import pytest
from reportd_client import aio, runs
from reportd_client.notes import ReportdWarning

from tests.images import png


def in_loop(function):
    @functools.wraps(function)
    def call(*arguments, **named):
        asyncio.run(function(*arguments, **named))

    return call


class Page:
    """An asynchronous page of Playwright, by what it can do."""

    def __init__(self, image):
        self._image = image

    async def screenshot(self, timeout):
        assert timeout == 3000
        if isinstance(self._image, Exception):
            raise self._image
        return self._image


@pytest.fixture
def settings(server, tmp_path, quick):
    return {"url": server.url, "token": server.token, "sender": "thread", "spool": str(tmp_path / "spool")}


@in_loop
async def test_a_run(server, settings):
    async with aio.run("asynchronous", tags=["a"], **settings) as run:

        async def one(name):
            async with run.test(name, f"aio/{name}", tags=["b"]) as test:
                async with test.step("Open the page"):
                    await asyncio.sleep(0)
                    with aio.step(f"Click {name}"):
                        await aio.screenshot(Page(png(3)))
                aio.attach(b"text", "server.log")
                assert aio.current_test() is test

        await asyncio.gather(one("first"), one("second"))
        assert await run.flush(30) is True
        run.add_metadata(team="shop")
        run.set_status("Passed")
    assert run.receipt.complete and run.receipt.tests == 2
    stored = server.run(run.receipt.run_id)
    assert (stored["name"], stored["status"], stored["metadata"]["team"]) == ("asynchronous", "Passed", "shop")
    for test in stored["tests"]:
        outer, inner = test["steps"]
        assert inner["action"] == f"Click {test['name']}" and inner["parent_step_number"] == outer["step_number"]
        assert [file["file_name"] for file in test["artifacts"]] == ["server.log", "step_002.png"]


@in_loop
async def test_the_event_loop_makes_no_run_and_ends_none(settings, monkeypatch):
    threads = []
    for name in ("open", "close", "flush"):
        method = getattr(runs.Run, name)

        def elsewhere(self, *arguments, method=method):
            threads.append(threading.get_ident())
            return method(self, *arguments)

        monkeypatch.setattr(runs.Run, name, elsewhere)
    async with aio.run(**settings) as run:
        await run.flush(0)
    assert len(threads) == 3 and threading.get_ident() not in threads


@in_loop
async def test_a_page_that_cannot_be_photographed_changes_nothing(server, settings):
    async with aio.run("no picture", **settings) as run:
        async with run.test("a"):
            with pytest.warns(ReportdWarning, match="No screenshot: ValueError: it is closed"):
                await aio.screenshot(Page(ValueError("it is closed")))
            await aio.screenshot(42)
        await aio.screenshot(Page(png(1)))  # outside of a test
    (test,) = server.run(run.receipt.run_id)["tests"]
    assert (test["status"], test["artifacts"]) == ("Passed", [])


@in_loop
async def test_an_exception_fails_the_test_and_passes_through(server, settings):
    with pytest.raises(ZeroDivisionError):
        async with aio.run("fails", **settings) as run:
            async with run.test("a"):
                1 / 0  # noqa: B018
    (test,) = server.run(run.receipt.run_id)["tests"]
    assert (test["status"], test["error_type"]) == ("Failed", "ZeroDivisionError")


@in_loop
async def test_wrong_settings(settings, monkeypatch):
    monkeypatch.setenv("REPORTD_STRICT", "1")
    with pytest.raises(ValueError, match="REPORTD_SENDER must be"):
        async with aio.run(**{**settings, "sender": "pigeon"}):
            pass
    with pytest.raises(RuntimeError, match="begins with `async with`"):
        aio.run(**settings).test("a")
