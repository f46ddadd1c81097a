"""Every page in a real Chromium, as people use it: with a mouse, a keyboard, a phone, without scripts, on paper."""

import asyncio
import base64
import json
import re
from urllib.parse import quote

import pytest

from tests.browser.test_results import appears, complaints, opened, press
from tests.chromium import browser, chromium
from tests.pages.test_hostile import site as hostile_site
from tests.site import FAILED, page_paths, shared
from tests.up_server import up_server

__all__ = ["browser", "chromium", "hostile_site", "opened", "up_server"]  # fixtures
MOVING = """[...document.querySelectorAll("*")].map((each) => getComputedStyle(each)).filter((style) =>
  /[1-9]/.test(style.transitionDuration + style.animationDuration)).length"""


DESK, PHONE = (1440, 900), (390, 844)
PAGES = pytest.mark.parametrize("path", page_paths())
# What a page reports about itself, from its first moment on.
OBSERVE = """
window.seen = {violations: [], shifts: 0, longest: 0};
addEventListener("securitypolicyviolation", (event) => seen.violations.push(event.violatedDirective), true);
new PerformanceObserver((list) =>
  list.getEntries().forEach((each) => { if (!each.hadRecentInput) seen.shifts += each.value; }))
  .observe({type: "layout-shift", buffered: true});
new PerformanceObserver((list) =>
  list.getEntries().forEach((each) => seen.longest = Math.max(seen.longest, each.duration)))
  .observe({type: "longtask", buffered: true});
"""
CONTROLS = "a[href], button, summary, select, input:not([type=hidden])"
# Controls that a finger hits in less than 44 pixels of height, except links within a sentence. The height is what is
# hit at their middle: a link may cover the whole card around it.
SMALL = """
[...document.querySelectorAll("CONTROLS")].filter((each) => {
  if (!each.checkVisibility({visibilityProperty: true}) || each.matches(".skip, [tabindex='-1'], svg *")) return false;
  const inline = getComputedStyle(each).display === "inline";
  if (inline && each.closest("p, dd, td, caption, .marks, .sides, .lines, .log, .foot")) return false;
  each.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
  const box = each.getClientRects()[0];
  const x = Math.min(innerWidth - 2, Math.max(1, box.left + box.width / 2)), y = box.top + box.height / 2;
  const hits = (at) => each.contains(document.elementFromPoint(x, at));
  let height = 0;
  for (let at = y; hits(at) && height < 44; at -= 1) height += 1;
  for (let at = y + 1; hits(at) && height < 44; at += 1) height += 1;
  return height < 43;
}).map((each) => each.outerHTML.slice(0, 120))
""".replace("CONTROLS", CONTROLS)
# What has the focus: how to find it, and whether that is visible on it or on what is around it.
FOCUS = """(() => {
  const here = document.activeElement;
  if (here === document.body) return null;
  const shown = (each) => each && getComputedStyle(each).outlineStyle !== "none";
  if (!here.dataset.visit) here.dataset.visit = window.visits = (window.visits || 0) + 1;
  const box = here.getBoundingClientRect();
  const outlined = [...document.querySelectorAll(":focus-within")].some(shown);
  return JSON.stringify([here.dataset.visit, outlined, box.width * box.height > 0, here.outerHTML.slice(0, 100)]);
})()"""
MISSED = f"""[...document.querySelectorAll("{CONTROLS}")].filter((each) => each.checkVisibility() &&
  !each.dataset.visit && each.tabIndex >= 0).map((each) => each.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def site(request, up_server):
    return shared(request, up_server, "pages", lambda text, _: text)


@pytest.fixture
async def visit(opened, site):
    """await visit(path, size): a tab with this page, signed in, that observes itself."""

    async def open_page(path, size=DESK, **options):
        tab = await opened("/healthz", *size, **options)
        await tab.command("Page.addScriptToEvaluateOnNewDocument", source=OBSERVE)
        await go(tab, path)
        return tab

    return open_page


async def go(tab, path):
    origin = re.match("http://[^/]+", (await tab.command("Page.getNavigationHistory"))["entries"][-1]["url"])[0]
    await tab.navigate(origin + path)


async def resize(tab, width, height=900):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    await tab.command("Emulation.setDeviceMetricsOverride", **size)


async def prefer(tab, **features):
    named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    await tab.command("Emulation.setEmulatedMedia", features=named)


async def ask(tab, script):
    return json.loads(await tab.evaluate(f"JSON.stringify({script})"))


async def write(tab, text):
    await tab.command("Input.insertText", text=text)


async def enter(tab):
    await press(tab, "Enter", text="\r", windowsVirtualKeyCode=13)


async def at(tab, path):
    """Wait until the tab shows this address and has loaded it."""
    script = "document.readyState === 'complete' && location.pathname + location.search"
    for _ in range(600):
        if (found := await tab.evaluate(script)) == path:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"at {found}, not {path}")


async def settled(tab):
    """Wait until the stage shows the chosen step, and has done so for a while."""
    script = """(() => { const row = document.querySelector(".rows a[aria-current]").getAttribute("href");
      const at = document.querySelector("#stage [data-at]").dataset.at;
      return row.endsWith(`=${at}`) && location.search.includes(`step=${at}`) && location.search; })()"""
    last, same = None, 0
    for _ in range(600):
        now = await tab.evaluate(script)
        same = same + 1 if now and now == last else 0
        if same == 10:
            return
        last = now
        await asyncio.sleep(0.05)
    pytest.fail(f"does not settle: {last}")


async def sign_in(tab, server):
    """Write name and password into the form that has the focus already, as a person does."""
    await appears(tab, "document.activeElement.id === 'name'")
    await write(tab, "admin")
    await tab.evaluate("document.getElementById('password').focus()")
    await write(tab, (server.data / "admin-password").read_text().strip())
    await enter(tab)


@pytest.mark.parametrize("size", [DESK, PHONE])
async def test_one_click_after_signing_in_the_failure_is_in_view(browser, up_server, site, size):
    asked = "/runs?project=pages"
    tab = await browser.open("about:blank")
    await resize(tab, *size)
    await tab.navigate(up_server.url + asked)
    assert await tab.evaluate("location.pathname") == "/sign-in"
    await sign_in(tab, up_server)
    await at(tab, asked)
    assert "pays by card" in await tab.evaluate("document.querySelector('.card').textContent")
    await tab.evaluate("document.querySelector('.card a').click()")
    await at(tab, f"/results/{site.failed}")
    boxes = await ask(
        tab,
        """["#stage h2", "#stage .problem", "#stage .shot img"].map((selector) =>
        document.querySelector(selector).getBoundingClientRect()).map((box) => [box.top, box.bottom])""",
    )
    assert all(0 <= top < bottom <= size[1] for top, bottom in boxes), boxes
    assert f"Step {FAILED}" in await tab.evaluate("document.querySelector('#stage h2').textContent")


@PAGES
async def test_a_page_is_quiet_and_stays_where_it_is(visit, site, up_server, path):
    for address in site.addresses()[path]:
        tab = await visit(address)
        await asyncio.sleep(0.1)
        seen = await ask(tab, "seen")
        print(address, seen)
        assert seen["violations"] == [] and complaints(tab) == [], address
        assert seen["shifts"] <= 0.1, (address, seen)  # the design says 0.02; fonts and a busy machine move a little
        requested = [each["request"]["url"] for each in tab.events_named("Network.requestWillBeSent")]
        assert all(each.startswith((up_server.url, "data:", "blob:")) for each in requested), requested
        assert await tab.evaluate("document.querySelectorAll('h1').length") == 1
        await prefer(tab, prefers_reduced_motion="reduce")
        assert await tab.evaluate(MOVING) == 0


@PAGES
async def test_hostile_text_runs_and_requests_nothing(visit, hostile_site, up_server, path):
    for address in hostile_site.addresses()[path][:2]:
        tab = await visit(address)
        await asyncio.sleep(0.1)
        assert await tab.evaluate("seen.violations.length") == 0 and complaints(tab) == [], address
        requested = [each["request"]["url"] for each in tab.events_named("Network.requestWillBeSent")]
        assert all(each.startswith((up_server.url, "data:", "blob:")) for each in requested), requested
        assert tab.events_named("Page.javascriptDialogOpening") == []
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@PAGES
async def test_nothing_scrolls_sideways_and_a_finger_hits_what_it_means(visit, site, path):
    (address, *_) = site.addresses()[path]
    tab = await visit(address, PHONE)
    await tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    for width in (320, 390, 720):  # 720: 200 % zoom of a window of 1,440
        await resize(tab, width)
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width, (address, width)
    await resize(tab, *PHONE)
    assert "\n".join(await ask(tab, SMALL)) == ""


@PAGES
async def test_every_control_is_reached_by_the_tab_key_and_shows_it(visit, site, path):
    (address, *_) = site.addresses()[path]
    tab = await visit(address)
    visited = {}
    for _ in range(200):
        await press(tab, "Tab", code="Tab", windowsVirtualKeyCode=9)
        found = await tab.evaluate(FOCUS)
        if found is None:  # the end of the page: the first control is next
            continue
        if (found := json.loads(found))[0] in visited:
            break
        visited[found[0]] = found
    else:
        pytest.fail("more than 200 tab stops")
    hidden = [text for _, outlined, sized, text in visited.values() if not (outlined and sized)]
    assert hidden == [], address
    missed = await ask(tab, MISSED)
    assert missed == [] and len(visited) > 2, address
    if await tab.evaluate("document.scripts.length"):  # without scripts, steps are plain links
        assert await tab.evaluate("document.querySelectorAll('.steps .rows a[data-visit]').length") <= 1


async def test_thirty_keys_leave_the_focus_where_it_was(visit, site):
    tab = await visit(f"/results/{site.failed}")
    await tab.evaluate("document.querySelector('#stage [data-key=k]').focus()")
    for key in "jjjkkjnNkjjkk32zzjkjkctwnjkkjj":
        await press(tab, key)
    await settled(tab)
    assert await tab.evaluate("document.activeElement.dataset.key") == "k"
    assert complaints(tab) == []
    before = await tab.evaluate("location.href")
    for modifiers in (1, 2, 4):  # Alt, Ctrl, Meta
        await press(tab, "j", modifiers=modifiers)
    await tab.evaluate("document.getElementById('filter').focus()")
    await write(tab, "jkn")
    await asyncio.sleep(0.2)
    assert await tab.evaluate("location.href") == before


@PAGES
async def test_a_page_reads_the_same_without_scripts(visit, site, path):
    """Its links, forms and texts are those that it has with scripts."""
    (address, *_) = site.addresses()[path]
    tab = await visit(address, scripts=False)
    (text,) = await tab.texts()
    words = set(re.findall(r"\w{4,}", text))
    tab = await visit(address)
    # Single keys are scripts: so is what /help draws about them.
    await tab.evaluate("document.getElementById('keys')?.remove()")
    with_scripts = await tab.evaluate("document.querySelector('main').innerText")
    missing = set(re.findall(r"\w{4,}", with_scripts)) - words
    assert len(missing) <= 5, (address, missing)


async def test_signing_in_and_filtering_need_no_scripts(browser, up_server, site):
    tab = await browser.open("about:blank")
    await tab.command("Emulation.setScriptExecutionDisabled", value=True)
    await tab.navigate(f"{up_server.url}/runs?project=pages")
    # The form has the focus already, but not before the page is drawn, and nothing can ask a page without scripts.
    root = (await tab.command("DOM.getDocument"))["root"]["nodeId"]
    await tab.command("DOM.focus", **await tab.command("DOM.querySelector", nodeId=root, selector="#name"))
    for text, key in (("admin", "Tab"), ((up_server.data / "admin-password").read_text().strip(), "Enter")):
        await write(tab, text)
        code = {"Tab": 9, "Enter": 13}[key]
        await press(tab, key, windowsVirtualKeyCode=code, **({"text": "\r"} if key == "Enter" else {}))
    async with asyncio.timeout(30):
        while "Needs a look" not in (text := (await tab.texts())[0]):
            await asyncio.sleep(0.05)
    assert "pays by card" in text


STATES = [
    ("/runs?project=pages&branch=main&status=Failed",
     "[...document.querySelectorAll('.chip')].map((each) => each.textContent)"),
    ("/runs/{run}?status=Passed", "document.querySelector('.tabs [aria-current]').textContent"),
    ("/runs/{run}?q=search", "document.getElementById('q').value"),
    ("/results/{failed}?step=1.16&view=side", "[document.querySelector('#stage [data-at]').dataset.at, "
     "document.querySelector('.modes [aria-current]').dataset.view]"),
    ("/results/{failed}?log=all&from=16000&to=18000", "document.querySelector('#logs').parentElement.textContent"),
    ("/tests?project=pages&id=shop%2Fpay&branch=main", "document.getElementById('f-branch').value"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "shown"), STATES)
async def test_what_is_shown_survives_reload_and_back_and_a_new_session(
    visit, browser, up_server, site, address, shown
):
    address = address.format(run=site.run, failed=site.failed)
    tab = await visit(address)
    before = await ask(tab, shown)
    assert before
    await tab.command("Page.reload")
    await at(tab, address)
    assert await ask(tab, shown) == before
    await go(tab, "/sign-out")
    await tab.evaluate("history.back()")
    await at(tab, address)
    assert await ask(tab, shown) == before
    # The session ends: the next click leads to sign-in, and from there to the very address.
    await browser.command("Storage.clearCookies", browserContextId=browser.context)
    await tab.command("Page.reload")
    await at(tab, f"/sign-in?next={quote(address, safe='')}")
    await sign_in(tab, up_server)
    await at(tab, address)
    assert await ask(tab, shown) == before


async def test_back_from_a_result_restores_where_the_run_was_scrolled_to(visit, site):
    tab = await visit(f"/runs/{site.run}", (390, 500))
    await tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true)); scrollTo(0, 400)")
    await asyncio.sleep(0.1)
    await tab.evaluate("document.querySelector('.card a').click()")
    await at(tab, f"/results/{site.failed}")
    await press(tab, "j")
    await appears(tab, "location.search")
    await tab.evaluate("history.back()")
    await at(tab, f"/runs/{site.run}")
    await appears(tab, "Math.abs(scrollY - 400) <= 2")


async def test_a_screenshot_is_large_and_whole(visit, site):
    tab = await visit(f"/results/{site.failed}")
    await appears(tab, "document.querySelector('.lines')?.textContent.includes('First difference')")
    await appears(tab, "document.querySelector('#stage .shot img').naturalWidth")
    box = await ask(tab, "document.querySelector('#stage .shot img').getBoundingClientRect()")
    assert box["width"] >= 780 and box["height"] >= 480 and box["bottom"] <= 900, box
    assert abs(box["width"] / box["height"] - 1.6) < 0.01
    await resize(tab, *PHONE)
    assert await tab.evaluate("document.querySelector('#stage .shot img').getBoundingClientRect().width") >= 360


@pytest.mark.parametrize("by_link", [False, True])
async def test_a_failed_result_of_twenty_steps_is_two_pages_of_paper(visit, site, by_link):
    tab = await visit(f"{site.link}/test-case-results/{site.failed}" if by_link else f"/results/{site.failed}")
    await appears(tab, "[...document.querySelectorAll('#stage .shot img')].every((each) => each.naturalWidth)")
    printed = await tab.command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
    pages = re.findall(rb"/Type /Page\b", base64.b64decode(printed["data"]))
    assert 1 <= len(pages) <= 2
