"""A real Chromium, as a person's browser: one process for a file of tests, a profile of its own for each test.

Driven over its DevTools protocol, by aiohttp's WebSocket. Import the fixtures `chromium` and `browser` where they are
needed. On a machine without one the tests are skipped, unless the environment has REQUIRE_CHROMIUM.
"""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.up_server import PATIENCE, wait_for


def program() -> str:
    """Its path. Skips the test, or fails it, where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        (pytest.fail if os.environ.get("REQUIRE_CHROMIUM") else pytest.skip)("no Chromium is installed")
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[str]:
    """A running one; the address of its DevTools."""
    profile = tmp_path_factory.mktemp("chromium")
    log, announced = profile / "log", profile / "DevToolsActivePort"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program(), *options, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # it is several processes, which end together
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
    """A profile without cookies, and the tabs in it."""
    async with ClientSession() as session, session.ws_connect(chromium, max_msg_size=0) as socket:
        browser = Browser(socket)
        listening = asyncio.create_task(browser.listen())
        context = await browser.ask("Target.createBrowserContext", disposeOnDetach=True)
        browser.context = context["browserContextId"]
        yield browser
        await browser.ask("Target.disposeBrowserContext", browserContextId=browser.context)
        listening.cancel()


class Browser:
    """What a person has before them: tabs, and what the browser says of them."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.context = ""
        self.tabs = 0  # that we opened
        self.events: list[dict[str, Any]] = []

    async def listen(self) -> None:
        """Takes answers and events as they come."""
        async for message in self._socket:
            said = message.json()
            if "id" not in said:
                self.events.append(said)
                if said["method"] == "Page.javascriptDialogOpening":  # the page waits for it, and so would everything
                    await self._send("Page.handleJavaScriptDialog", said["sessionId"], accept=True)
            elif not (answer := self._answers.pop(said["id"])).done():
                answer.set_result(said)

    async def ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """A command of the protocol, to a tab or to the browser; what it returns."""
        answer = await self._send(method, session, **parameters)
        async with asyncio.timeout(PATIENCE):
            said = await answer
        assert "result" in said, (method, said)
        return said["result"]

    def said(self, method: str, session: str | None = None) -> list[Any]:
        """The events of this name, of a tab or of all."""
        events = [each for each in self.events if each["method"] == method]
        return [each["params"] for each in events if session in (None, each.get("sessionId"))]

    async def _send(self, method: str, session: str | None, **parameters: Any) -> asyncio.Future[Any]:
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        to = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **to})
        return answer

    async def open(self, url: str) -> "Tab":
        """A new tab, once its page and all in it has loaded, or is not going to."""
        self.tabs += 1
        target = await self.ask("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, target["targetId"], attached["sessionId"])
        await tab.ask("Page.enable")
        await tab.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        # A frame that is kept apart is a process of its own.
        await tab.ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        await tab.go(url)
        return tab

    async def pages(self) -> list[str]:
        """The addresses of all tabs and windows, whoever opened them."""
        found = await self.ask("Target.getTargets")
        targets = [each for each in found["targetInfos"] if each.get("browserContextId") == self.context]
        return sorted(each["url"] for each in targets if each["type"] == "page")


class Tab:
    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self.target = target
        self.session = session

    async def ask(self, method: str, **parameters: Any) -> Any:
        return await self._browser.ask(method, self.session, **parameters)

    def said(self, method: str) -> list[Any]:
        """The events of this name."""
        return self._browser.said(method, self.session)

    async def go(self, url: str) -> None:
        """To a page, and until it has loaded; also to one that turns out to be a download."""
        before = len(self.said("Page.frameStoppedLoading"))
        answer = await self.ask("Page.navigate", url=url)

        def stopped() -> bool:
            later = self.said("Page.frameStoppedLoading")[before:]
            return answer["frameId"] in [each["frameId"] for each in later]

        if answer.get("errorText") != "net::ERR_ABORTED":
            await until(stopped, lambda: url)

    async def run(self, script: str, session: str | None = None) -> Any:
        """What a script says that is run by us, as a person does in the console: also where a page may run none."""
        answer = await self._browser.ask(
            "Runtime.evaluate", session or self.session, expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def apart(self) -> list[str]:
        """The sessions of frames that the browser keeps in processes of their own."""
        gone = [each["sessionId"] for each in self.said("Target.detachedFromTarget")]
        frames = [each for each in self.said("Target.attachedToTarget") if each["targetInfo"]["type"] == "iframe"]
        return [each["sessionId"] for each in frames if each["sessionId"] not in gone]

    async def texts(self) -> list[str]:
        """What stands in the page, and in each of its frames."""
        found = []
        for session in (self.session, *self.apart()):
            shot = await self._browser.ask("DOMSnapshot.captureSnapshot", session, computedStyles=[])
            for document in shot["documents"]:
                values = [shot["strings"][index] for index in document["nodes"]["nodeValue"] if index >= 0]
                found.append("\n".join(values))
        return found

    async def click(self, x: int, y: int, enough: Callable[[], Any]) -> None:
        """Clicks on a place until that is enough: a frame that was just made takes no clicks yet."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for kind in ("mousePressed", "mouseReleased"):
                    await self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
                for _ in range(10):
                    if await enough():
                        return
                    await asyncio.sleep(0.02)


async def until(condition: Callable[[], Any], explain: Callable[[], str]) -> Any:
    """What the condition returns when that is true at last."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        pytest.fail(explain())
