"""A real Chromium: one process per test file, and a separate profile per test.

It is driven over the DevTools protocol through aiohttp's WebSocket. Test files import the fixtures `chromium` and
`browser`. Without an installed Chromium the tests are skipped; with REQUIRE_CHROMIUM in the environment they fail.
"""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.up_server import PATIENCE, wait_for


def chromium_path() -> str:
    """The path of the installed Chromium. Skips or fails the test when none is installed."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        (pytest.fail if os.environ.get("REQUIRE_CHROMIUM") else pytest.skip)("no Chromium is installed")
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[str]:
    """The DevTools address of a running Chromium."""
    with launched(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@contextmanager
def launched(profile: Path) -> Iterator[str]:
    """Runs Chromium with this folder until the block ends. Its DevTools address."""
    log, announced = profile / "log", profile / "DevToolsActivePort"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [chromium_path(), *options, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Chromium is several processes: killpg ends all of them
        )
    try:
        port, path = wait_for(lambda: announced.exists() and announced.read_text().split(), log.read_text)
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
async def browser(chromium) -> AsyncIterator["Browser"]:
    """A browser profile without cookies."""
    async with connected(chromium) as browser:
        yield browser


@asynccontextmanager
async def connected(address: str) -> AsyncIterator["Browser"]:
    """A browser profile without cookies, in the Chromium at this DevTools address, until the block ends."""
    async with ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        browser = Browser(socket)
        listening = asyncio.create_task(browser.listen())
        context = await browser.command("Target.createBrowserContext", disposeOnDetach=True)
        browser.context = context["browserContextId"]
        yield browser
        await browser.command("Target.disposeBrowserContext", browserContextId=browser.context)
        listening.cancel()


class Browser:
    """One browser profile: opens tabs, sends DevTools commands and records the events."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self.context = ""
        self.tabs = 0  # opened by the test, not by a page
        self.events: list[dict[str, Any]] = []

    async def listen(self) -> None:
        """Receive replies and events until cancelled."""
        async for message in self._socket:
            received = message.json()
            if "id" not in received:
                self.events.append(received)
                if received["method"] == "Page.javascriptDialogOpening":  # an open dialog would block the page
                    await self._send("Page.handleJavaScriptDialog", received["sessionId"], accept=True)
            elif not (reply := self._replies.pop(received["id"])).done():
                reply.set_result(received)

    async def command(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send a DevTools command to a tab, or to the browser without `session`, and return its result."""
        reply = await self._send(method, session, **parameters)
        async with asyncio.timeout(PATIENCE):
            received = await reply
        assert "result" in received, (method, received)
        return received["result"]

    def events_named(self, method: str, session: str | None = None) -> list[Any]:
        """The parameters of the recorded events of this name, of one tab or of all tabs."""
        events = [each for each in self.events if each["method"] == method]
        return [each["params"] for each in events if session in (None, each.get("sessionId"))]

    async def _send(self, method: str, session: str | None, **parameters: Any) -> asyncio.Future[Any]:
        number = next(self._numbers)
        self._replies[number] = reply = asyncio.get_running_loop().create_future()
        to = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **to})
        return reply

    async def open(self, url: str) -> "Tab":
        """A new tab, returned when its page has finished loading or has failed to load."""
        self.tabs += 1
        target = await self.command("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, target["targetId"], attached["sessionId"])
        await tab.command("Page.enable")
        await tab.command("Emulation.setFocusEmulationEnabled", enabled=True)
        # Attach to frames that Chromium isolates in their own processes.
        await tab.command("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        await tab.navigate(url)
        return tab

    async def pages(self) -> list[str]:
        """The URLs of all tabs and windows, also of those that a page opened."""
        found = await self.command("Target.getTargets")
        targets = [each for each in found["targetInfos"] if each.get("browserContextId") == self.context]
        return sorted(each["url"] for each in targets if each["type"] == "page")


class Tab:
    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self.target = target
        self.session = session

    async def command(self, method: str, **parameters: Any) -> Any:
        return await self._browser.command(method, self.session, **parameters)

    def events_named(self, method: str) -> list[Any]:
        """The parameters of this tab's recorded events of this name."""
        return self._browser.events_named(method, self.session)

    async def navigate(self, url: str) -> None:
        """Open a URL and wait until it has loaded. Returns at once when the URL is a download."""
        before = len(self.events_named("Page.frameStoppedLoading"))
        result = await self.command("Page.navigate", url=url)

        def stopped() -> bool:
            later = self.events_named("Page.frameStoppedLoading")[before:]
            return result["frameId"] in [each["frameId"] for each in later]

        if result.get("errorText") != "net::ERR_ABORTED":
            await until(stopped, lambda: url)

    async def evaluate(self, script: str, session: str | None = None) -> Any:
        """Run a script as the DevTools console does (the page's CSP does not apply) and return its value."""
        result = await self._browser.command(
            "Runtime.evaluate", session or self.session, expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def isolated_frames(self) -> list[str]:
        """The sessions of the frames that Chromium runs in their own processes."""
        gone = [each["sessionId"] for each in self.events_named("Target.detachedFromTarget")]
        attached = self.events_named("Target.attachedToTarget")
        frames = [each for each in attached if each["targetInfo"]["type"] == "iframe"]
        return [each["sessionId"] for each in frames if each["sessionId"] not in gone]

    async def texts(self) -> list[str]:
        """The text of the page and of each of its frames."""
        found = []
        for session in (self.session, *self.isolated_frames()):
            shot = await self._browser.command("DOMSnapshot.captureSnapshot", session, computedStyles=[])
            for document in shot["documents"]:
                values = [shot["strings"][index] for index in document["nodes"]["nodeValue"] if index >= 0]
                found.append("\n".join(values))
        return found

    async def click(self, x: int, y: int, done: Callable[[], Any]) -> None:
        """Click on a position until `done` is true: a new frame ignores the first clicks."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for kind in ("mousePressed", "mouseReleased"):
                    await self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
                for _ in range(10):
                    if await done():
                        return
                    await asyncio.sleep(0.02)


async def until(condition: Callable[[], Any], explain: Callable[[], str]) -> Any:
    """Wait until the condition is true and return its value."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        pytest.fail(explain())
