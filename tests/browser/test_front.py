"""The pages of runs in a real browser: narrow screens, no scripts, an empty server, and the way to a failure."""

import asyncio
import json

import pytest

from server.services import SERVICES
from tests.api.test_steps import send_png
from tests.chromium import browser, chromium, until
from tests.people import PASSWORD

__all__ = ["browser", "chromium"]  # fixtures

API = "/api/v1/reports"
# What a finger has to hit, and is lower than 44 pixels. A link that covers its row or card is as large as that.
SMALL = """JSON.stringify([...document.querySelectorAll("a, button, input, select, summary")].filter((each) => {
  const row = each.closest(".run, .card, .rows li"), inText = each.closest("p:not(.chips, .more), dd, .skip");
  const box = (row && getComputedStyle(each, "::after").position === "absolute" ? row : each).getBoundingClientRect();
  return box.width && box.height < 43.5 && !inText && each.type !== "hidden" && !each.matches(".skip");
}).map((each) => each.outerHTML.slice(0, 120)))"""
SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture
async def failed(client, make_run, make_case):
    """A failed run of several tests: its id, and the id of the result with a step and a screenshot."""
    run = await make_run(branch="main", environment="staging", commit_sha="f" * 40, triggered_by="anna", tags=["web"])
    case = await make_case(run=run, name="pays by card", status="Failed", error_message="no button " * 30)
    step = {"step_number": 17, "step_type": "click", "action": "Click Pay now", "status": "Failed"}
    await client.post(f"{API}/test-case-results/{case}/steps", json={"steps": [step]})
    await send_png(client, f"{API}/test-case-results/{case}", step_number=17, artifact_category="error")
    for number in range(40):
        await make_case(run=run, name=f"a test with a name of usual length {number}", status="Passed", duration_ms=1234)
    await client.patch(f"{API}/suite-runs/{run}", json={"status": "Failed"})
    return run, case


@pytest.fixture
async def signed_in(nobody, browser, make_user):
    """await signed_in(path, width, scripts): a tab of somebody who has signed in with the form."""

    async def opened(path, width=1440, height=900, scripts=True):
        base = f"http://{nobody.host}:{nobody.port}"
        tab = await browser.open("about:blank")
        await tab.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await tab.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        await tab.navigate(base + path)
        await sign_in(tab, make_user(default="viewer"))
        return tab

    return opened


async def sign_in(tab, person):
    """Fill in the form, and wait for the page that was asked for."""
    for name, value in (("name", person), ("password", PASSWORD)):
        await tab.evaluate(f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}")
    await follow(tab, "form button")


async def follow(tab, selector):
    """Click on a link, and wait until its page has loaded."""
    before = len(tab.events_named("Page.frameStoppedLoading"))
    await tab.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
    await until(lambda: len(tab.events_named("Page.frameStoppedLoading")) > before, lambda: selector)


@pytest.mark.parametrize("width", [320, 390])
async def test_nothing_is_cut_on_a_phone_and_everything_can_be_hit(signed_in, failed, width):
    run, _ = failed
    tab = await signed_in("/", width, 844)
    base = await tab.evaluate("location.origin")
    for path in ("/", "/runs?branch=mian", f"/runs/{run}", f"/runs/{run}?status=Failed&group=none", "/help"):
        await tab.navigate(base + path)
        assert not await tab.evaluate(SIDEWAYS), path
        assert json.loads(await tab.evaluate(SMALL)) == [], path
    await tab.command("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
    assert json.loads(await tab.evaluate(SMALL)) != []  # a mouse may hit less: the script finds what is small


@pytest.mark.parametrize("scripts", [True, False])
async def test_from_signing_in_one_click_leads_to_the_step_that_failed(signed_in, failed, scripts):
    run, case = failed
    tab = await signed_in("/", scripts=scripts)
    assert await tab.evaluate("document.querySelector('.card h3').textContent") == "pays by card"
    await follow(tab, ".card h3 a")
    assert await tab.evaluate("location.pathname") == f"/results/{case}"
    text = await tab.evaluate("document.querySelector('main').innerText")
    assert "Click Pay now" in text and "no button" in text
    await follow(tab, f'a[href="/runs/{run}"]')
    await follow(tab, ".tabs a.Passed")
    assert await tab.evaluate("location.search") == "?status=Passed"


async def test_going_back_restores_the_place_on_the_page_of_a_run(signed_in, failed):
    run, _ = failed
    tab = await signed_in(f"/runs/{run}?status=Passed", 1440, 600)
    await tab.evaluate("scrollTo(0, 700)")
    before = await tab.evaluate("scrollY")
    assert before > 300
    await asyncio.sleep(0.2)
    await follow(tab, ".rows li:nth-child(20) a")
    shown = len(tab.events_named("Page.frameNavigated"))
    await tab.evaluate("history.back()")
    await until(lambda: len(tab.events_named("Page.frameNavigated")) > shown, lambda: "back")
    async with asyncio.timeout(30):
        while abs(await tab.evaluate("scrollY") - before) > 2:
            await asyncio.sleep(0.05)


async def test_an_empty_server_turns_into_the_list_by_itself(signed_in, make_run):
    tab = await signed_in("/")
    assert await tab.evaluate("document.getElementById('waiting').textContent") == "Waiting for the first run…"
    shown = len(tab.events_named("Page.frameStoppedLoading"))
    await make_run(name="the first one")
    await until(lambda: len(tab.events_named("Page.frameStoppedLoading")) > shown, lambda: "the list")
    assert "the first one" in await tab.evaluate("document.body.innerText")


async def test_a_session_that_ends_in_the_middle_leads_to_the_page_that_was_asked_for(signed_in, failed, rows, nobody):
    run, _ = failed
    tab = await signed_in(f"/runs/{run}?status=Passed&q=length+7")
    assert await tab.evaluate("location.search") == "?status=Passed&q=length+7"
    rows("DELETE FROM sessions")
    nobody.app[SERVICES].callers.clear()
    await follow(tab, ".rows a")
    assert await tab.evaluate("location.pathname") == "/sign-in"
    (person,) = rows("SELECT name FROM users")
    await sign_in(tab, person["name"])
    assert (await tab.evaluate("location.pathname")).startswith("/results/")
