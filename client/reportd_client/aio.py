"""The library for asyncio: nothing of it waits in the event loop.

    from reportd_client import aio

    async with aio.run(name="nightly") as run:
        async with run.test("login works") as test, test.step("Open the login page"):
            await aio.screenshot(page)

Tests, steps and files are those of `import reportd_client`: they append to the spool, and never wait for the network.
Steps belong to the task that opened them, and to the tasks that it starts.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Optional

from reportd_client.api import attach, current_test
from reportd_client.receipt import Receipt
from reportd_client.runs import Run as _Run
from reportd_client.runs import make_run
from reportd_client.screenshots import SECONDS, image_of
from reportd_client.steps import Step as step
from reportd_client.tests import Test

__all__ = ["Run", "attach", "current_test", "run", "screenshot", "step"]


class Run:
    """One run of a test suite: an asynchronous context manager. Git, the spool and the end of the sender are waited for
    in a thread."""

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        self._run: Optional[_Run] = None

    async def __aenter__(self) -> Run:
        self._run = await asyncio.to_thread(_opened, self._arguments)
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await asyncio.to_thread(self._begun.close)

    @property
    def _begun(self) -> _Run:
        if self._run is None:
            raise RuntimeError("A run begins with `async with`")
        return self._run

    @property
    def receipt(self) -> Optional[Receipt]:
        """What has become of the run, after its end."""
        return self._begun.receipt

    async def flush(self, timeout: Optional[float] = None) -> bool:
        """Wait until what has ended so far is on the server: whether it is."""
        return bool(await asyncio.to_thread(self._begun.flush, timeout))

    def test(self, name: str, test_id: Optional[str] = None, **fields: Any) -> Test:
        """One attempt of a test, for `async with` or `with`; `fields` are those of reportd_client.Run.test."""
        return self._begun.test(name, test_id, **fields)

    def add_metadata(self, **values: Any) -> None:
        self._begun.add_metadata(**values)

    def expect(self, tests: int) -> None:
        self._begun.expect(tests)

    def add_error(self, text: str) -> None:
        self._begun.add_error(text)

    def set_status(self, status: str) -> None:
        self._begun.set_status(status)


def _opened(arguments: dict[str, Any]) -> _Run:
    run = make_run(**arguments)
    run.open()
    return run


def run(name: Optional[str] = None, **settings: Any) -> Run:
    """A run with the settings of reportd_client.run."""
    return Run(name=name, **settings)


async def screenshot(source: Any, category: Optional[str] = None) -> None:
    """A screenshot of the step that is open, else of the running test. `source` may also be an asynchronous page or
    locator of Playwright. A page that hangs or is closed costs at most 3 seconds, and changes nothing in the test."""
    test = current_test()
    if test is None:
        return
    try:
        image = await _image(source)
    except Exception as error:
        test.notes.problem("screenshot", f"No screenshot: {type(error).__name__}: {error}")
        return
    test.screenshot(image, category)


async def _image(source: Any) -> Any:
    if asyncio.iscoroutinefunction(getattr(source, "screenshot", None)):
        return await asyncio.wait_for(source.screenshot(timeout=SECONDS * 1000), SECONDS + 1)
    return await asyncio.to_thread(image_of, source)
