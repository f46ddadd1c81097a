"""The page of a result in a real Chromium: steps by key, image modes, narrow screens, and the page without scripts."""

import asyncio
import json
import urllib.parse
import urllib.request
from http.cookies import SimpleCookie

import pytest

from server.http.authenticate import COOKIE
from tests.chromium import browser, chromium, until
from tests.makers import png
from tests.up_server import up_server

__all__ = ["browser", "chromium", "up_server"]  # fixtures

BASE = "/api/v1/reports"
HOSTILE = "<img src=x onerror=alert(1)>\u202e"
LONG = "averylongwordwithoutanyspaces" * 12


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def session_of(server):
    """The cookie of a session of the server's token."""
    form = urllib.parse.urlencode({"token": server.token}).encode()
    try:
        urllib.request.build_opener(_Stay).open(f"{server.url}/sign-in", form, timeout=60)
    except urllib.error.HTTPError as reply:
        with reply:
            return SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value
    raise AssertionError("signing in did not redirect")


def make_result(server, count=6, failed=(4,), pictures=(1, 2, 3, 4)):
    """The id of a result with these steps, and of its run."""
    run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly", "status": "Failed"}, status=201)["id"]
    case = {"name": "pays by card", "status": "Failed", "tags": [LONG], "browser": HOSTILE}
    case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", case, status=201)["id"]
    url = f"{BASE}/test-case-results/{case}"
    steps = [
        {"step_number": number, "step_type": "ui", "description": f"Do {number} {HOSTILE}", "status": "Passed",
         "duration_ms": 100, "started_at": f"2026-01-24T12:00:{number % 60:02}Z"}
        for number in range(1, count + 1)
    ]  # fmt: skip
    for number in failed:
        steps[number - 1] |= {"status": "Failed", "error_message": f"{LONG} {HOSTILE}\n" * 9, "stack_trace": LONG}
    server.ask_json("POST", f"{url}/steps/bulk", {"steps": steps}, status=201)
    for number in pictures:
        picture = ("file", f"step_{number}.png", png(320, 200, seed=number), "image/png")
        server.send(f"{url}/artifacts", picture, ("artifact_type", "screenshot"), ("step_number", str(number)))
    entry = {"level": "error", "message": HOSTILE, "logged_at": "2026-01-24T12:00:04.050Z"}
    server.ask_json("POST", f"{url}/console-logs", {"entries": [entry]}, status=201)
    return case, run


@pytest.fixture
async def opened(browser, up_server):
    """await opened(path, width=…): a tab with this page, signed in. What the page logs is collected."""
    cookie = {"name": COOKIE, "value": session_of(up_server), "url": up_server.url}
    await browser.command("Storage.setCookies", cookies=[cookie], browserContextId=browser.context)

    async def open_page(path, width=1440, height=900, scripts=True):
        tab = await browser.open("about:blank")
        for domain in ("Network", "Log", "Runtime"):
            await tab.command(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await tab.command("Emulation.setDeviceMetricsOverride", **size)
        if not scripts:
            await tab.command("Emulation.setScriptExecutionDisabled", value=True)
        await tab.navigate(up_server.url + path)
        return tab

    return open_page


async def press(tab, key, **options):
    text = {"text": key} if len(key) == 1 and "modifiers" not in options else {}
    await tab.command("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **options)
    await tab.command("Input.dispatchKeyEvent", type="keyUp", key=key, **options)


async def shows(tab, step):
    """Wait until the stage shows this step."""
    script = (
        'document.querySelector("#stage [data-at]").dataset.at + " " + new URLSearchParams(location.search).get("step")'
    )
    for _ in range(600):
        if (found := await tab.evaluate(script)).split() == [step, step]:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{found} is shown, not {step}")


async def appears(tab, script):
    """The value of a script, as soon as it is not empty."""
    for _ in range(600):
        if found := await tab.evaluate(script):
            return found
        await asyncio.sleep(0.05)
    pytest.fail(f"{script} found nothing")


def complaints(tab):
    """Errors of scripts and violations of the policy, and requests that left the server."""
    entries = [each["entry"] for each in tab.events_named("Log.entryAdded")]
    errors = [each["text"] for each in entries if "/thumbs/" not in each.get("url", "")]
    return errors + tab.events_named("Runtime.exceptionThrown")


async def test_keys_choose_steps_and_the_address_follows(opened, up_server):
    case, _ = make_result(up_server, failed=(2, 4))
    tab = await opened(f"/results/{case}")
    assert "step_2.png" in await tab.evaluate('document.querySelector(".shot img").alt')
    for key, step in [("j", "1.3"), ("j", "1.4"), ("k", "1.3"), ("n", "1.4"), ("N", "1.2"), ("k", "1.1"), ("k", "1.1")]:
        await press(tab, key)
        await shows(tab, step)
    await press(tab, "j", modifiers=2)
    await tab.evaluate('document.getElementById("filter").focus()')
    await press(tab, "j")
    state = json.loads(
        await tab.evaluate("""JSON.stringify([
        document.getElementById("filter").value, document.querySelector("#stage [data-at]").dataset.at,
        document.querySelectorAll('.rows [tabindex="0"]').length, document.getElementById("said").textContent.trim(),
        document.querySelector('.rows [aria-current="step"] b').textContent])""")
    )
    assert state[:3] == ["j", "1.1", 1] and state[3].startswith("✓ Passed") and state[4] == "1"
    await press(tab, "Escape")
    await tab.evaluate("""document.querySelector('.rows [tabindex="0"]').focus()""")
    await press(tab, "ArrowDown")
    await shows(tab, "1.2")
    assert await tab.evaluate('document.activeElement.getAttribute("href")') == "?step=1.2"
    asked = [each["request"]["url"] for each in tab.events_named("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith(up_server.url)] == []
    await tab.evaluate('localStorage.setItem("reportd.keys", "off")')
    await press(tab, "j")
    await asyncio.sleep(0.2)
    await shows(tab, "1.2")
    assert complaints(tab) == []


async def test_image_modes_keep_the_focus_and_survive_a_reload(opened, up_server):
    case, _ = make_result(up_server)
    tab = await opened(f"/results/{case}")
    await tab.evaluate("""document.querySelector('[data-view="slider"]').focus()""")
    await tab.evaluate("document.activeElement.click()")
    assert await appears(tab, 'document.querySelector(".slider.over")?.className')
    assert await tab.evaluate("document.activeElement.dataset.view") == "slider"
    await tab.command("Page.reload")
    assert await appears(tab, 'document.querySelector(".divide")?.className')
    assert "view=slider" in await tab.evaluate("location.search")
    await press(tab, "z")
    assert await appears(tab, 'document.querySelector(".actual")?.className')
    await press(tab, "4")
    text = await appears(tab, "document.querySelector('.counted')?.textContent.match(/.* of the pixels differ/)?.[0]")
    assert float(text.split()[0]) > 20 and "view=difference" in await tab.evaluate("location.search")
    assert complaints(tab) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
async def test_no_page_scrolls_sideways(opened, up_server, width):
    case, _ = make_result(up_server)
    for path in (f"/results/{case}", f"/results/{case}?step=4&view=side", f"/results/{case}/steps/1.4"):
        tab = await opened(path, width)
        await tab.evaluate('document.querySelectorAll("details").forEach((each) => (each.open = true))')
        sizes = await tab.evaluate("[document.documentElement.scrollWidth, innerWidth].join()")
        assert int(sizes.split(",")[0]) <= width, (path, sizes)


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
async def test_the_failure_is_in_view_at_once(opened, up_server, width, height):
    case, _ = make_result(up_server, count=60, failed=(47,), pictures=(46, 47))
    tab = await opened(f"/results/{case}", width, height)
    boxes = json.loads(
        await tab.evaluate("""JSON.stringify(["#stage h2", "#stage .problem", "#stage .shot img"].map(
        (selector) => document.querySelector(selector).getBoundingClientRect()).map((box) => [box.top, box.bottom]))""")
    )
    assert all(0 <= top < bottom <= height for top, bottom in boxes), boxes


async def test_nothing_needs_scripts(opened, up_server):
    case, _ = make_result(up_server)
    tab = await opened(f"/results/{case}?step=1.4&view=side", scripts=False)
    (text,) = await tab.texts()
    assert "Do 4" in text and "Do 6" in text and "Side by side" in text


async def test_a_file_that_is_missing_on_the_disk_is_said(opened, up_server):
    case, _ = make_result(up_server, pictures=(4,))
    (stored,) = up_server.rows("SELECT storage_path FROM test_artifacts WHERE test_case_result_id = %s", case)
    file = up_server.data / "artifacts" / stored[0]
    away = file.rename(up_server.data / "away")
    try:
        tab = await opened(f"/results/{case}")
        found = await appears(tab, 'document.querySelector("#stage .shot .none")?.textContent')
        assert "sha256" in found and "reportd check" in found
    finally:
        away.rename(file)  # other tests check the folder of this server


async def test_a_deleted_result_and_an_ended_session_are_said(opened, browser, up_server):
    case, run = make_result(up_server)
    tab = await opened(f"/results/{case}?step=1.1")
    await browser.command("Storage.clearCookies", browserContextId=browser.context)
    await press(tab, "n")
    await until(
        lambda: any("/sign-in" in each["frame"]["url"] for each in tab.events_named("Page.frameNavigated")), str
    )
    assert await appears(tab, 'document.querySelector("[name=next]")?.value') == f"/results/{case}?step=1.1"
    tab = await opened(f"/results/{case}?step=1.1")
    cookie = {"name": COOKIE, "value": session_of(up_server), "url": up_server.url}
    await browser.command("Storage.setCookies", cookies=[cookie], browserContextId=browser.context)
    await tab.navigate(f"{up_server.url}/results/{case}?step=1.1")
    up_server.ask("DELETE", f"{BASE}/suite-runs/{run}")
    await press(tab, "n")
    assert "gone" in await appears(tab, 'document.getElementById("notice").textContent')
    assert tab.events_named("Runtime.exceptionThrown") == []
