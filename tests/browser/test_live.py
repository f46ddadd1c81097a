"""Pages of what is running, in a real Chromium: numbers follow, and nothing else moves."""

import asyncio
import time

import pytest

from tests.browser.test_pages import ask, opened, press
from tests.browser.test_results import appears, complaints, shows
from tests.chromium import browser, chromium
from tests.up_server import up_server

__all__ = ["browser", "chromium", "opened", "up_server"]  # fixtures

API = "/api/v1/reports"
SUM = "document.querySelector('.sum').textContent"
# Where the reader is: what has the focus, and what is in view.
PLACE = "[document.activeElement.outerHTML, scrollY, document.querySelector('.rows')?.scrollTop]"


def asked(tab):
    """The fragments that a page has fetched."""
    sent = [each["request"]["url"] for each in tab.events_named("Network.requestWillBeSent")]
    return [url for url in sent if "part=live" in url]


def loads(tab):
    return len(tab.events_named("Page.frameStoppedLoading"))


@pytest.fixture
def running(up_server):
    """A run that is running, with a failed result of 30 steps: their ids, and what adds a result."""
    run = up_server.ask_json("POST", f"{API}/suite-runs", {"name": "nightly"}, status=201)["id"]

    def add(name, status="Failed", **more):
        body = {"name": name, "test_id": name, "status": status, **more}
        return up_server.ask_json("POST", f"{API}/suite-runs/{run}/test-cases", body, status=201)["id"]

    case = add("pays by card")
    for number in range(40):
        add(f"searches {number}", error_message=f"Error {chr(97 + number % 26)}{chr(97 + number // 26)}")
    add_steps(up_server, case, range(1, 31))
    yield run, case, add
    up_server.ask("DELETE", f"{API}/suite-runs/{run}")


def add_steps(server, case, numbers):
    steps = [{"step_number": n, "step_type": "ui", "status": "Failed" if n == 20 else "Passed"} for n in numbers]
    server.ask_json("PUT", f"{API}/test-case-results/{case}/steps", {"steps": steps})


async def test_numbers_follow_a_run_and_nothing_moves(opened, up_server, running):
    run, case, add = running
    of_run, of_result = await opened(f"/runs/{run}"), await opened(f"/results/{case}")
    assert await of_run.evaluate("document.getElementById('refresh').hidden")
    await of_run.evaluate("document.querySelectorAll('.card a')[5].focus(); scrollTo(0, 700)")
    await of_result.evaluate("document.querySelector('.rows [aria-current]').focus()")
    await press(of_result, "j")
    await shows(of_result, "1.21")
    before, loaded = [await ask(tab, PLACE) for tab in (of_run, of_result)], [loads(of_run), loads(of_result)]
    started = time.monotonic()
    for number in range(4):
        await asyncio.to_thread(add, f"fails later {number}")
        await asyncio.sleep(1)
    await asyncio.to_thread(add, "pays by card", "Passed", attempt=2)
    await asyncio.to_thread(add_steps, up_server, case, range(31, 34))
    await appears(of_run, f"{SUM}.includes('44 failed') && {SUM}.includes('1 flaky')")
    assert await of_run.evaluate("document.getElementById('live-news').textContent") == "3 new failures"
    assert (await of_run.evaluate("document.title")).startswith("✕ 44 · nightly")
    await appears(of_result, "document.querySelectorAll('.attempts a').length === 3")
    assert await of_result.evaluate("document.getElementById('live-news').textContent") == "3 new steps"
    for tab, place, loaded_before in zip((of_run, of_result), before, loaded, strict=True):
        assert await ask(tab, PLACE) == place and loads(tab) == loaded_before and complaints(tab) == []
        assert 1 <= len(asked(tab)) <= (time.monotonic() - started) / 3 + 2
    await shows(of_result, "1.21")
    await of_result.evaluate("document.querySelector('#live-news a').click()")
    await appears(of_result, "document.querySelectorAll('.rows a').length === 33")
    await shows(of_result, "1.21")


async def test_the_list_follows_and_a_screen_reader_is_not_interrupted(opened, up_server, running):
    run, _, add = running
    tab = await opened("/runs?name=nightly")
    await tab.evaluate(  # the connection ends in the middle of the first reply
        "const fetched = fetch; window.fetch = () => { window.fetch = fetched;"
        " return Promise.resolve({ok: true, text: () => Promise.reject(new TypeError('cut'))}) }; null"
    )
    await tab.evaluate(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('heard').textContent))"
        ".observe(document.getElementById('heard'), {childList: true})"
    )
    row = f"document.getElementById('run-{run}').textContent"
    for number in range(3):
        await asyncio.to_thread(add, f"follows {number}", "Passed")
        await appears(tab, f"/\\b{number + 1} passed/.test({row})")
    up_server.ask_json("POST", f"{API}/suite-runs", {"name": "nightly", "status": "Passed"}, status=201)
    await appears(tab, "document.getElementById('live-news').textContent === '1 new run'")
    assert len(await ask(tab, "said")) <= 1 and complaints(tab) == []


async def test_a_hidden_page_asks_nothing(opened, running):
    run, *_ = running
    tab = await opened(f"/runs/{run}")
    await tab.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    before = len(asked(tab))
    await asyncio.sleep(4)
    assert len(asked(tab)) == before
    await tab.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    for _ in range(600):
        if len(asked(tab)) > before:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("it asks nothing")


async def test_a_run_that_is_deleted_is_said_to_be_gone(opened, up_server, running):
    run, case, _ = running
    tabs = [await opened(f"/runs/{run}"), await opened(f"/results/{case}")]
    assert up_server.ask("DELETE", f"{API}/suite-runs/{run}").status == 204
    for tab in tabs:
        await appears(tab, "document.getElementById('notice').textContent.includes('This is gone')")
        assert tab.events_named("Runtime.exceptionThrown") == []
        assert not await tab.evaluate("document.getElementById('refresh').hidden")
        assert len(asked(tab)) == 1
    await press(tabs[1], "j")
    await appears(tabs[1], "document.getElementById('notice').textContent.includes('This is gone')")
    assert tabs[1].events_named("Runtime.exceptionThrown") == []
