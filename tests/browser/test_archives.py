"""A run that was downloaded, opened from a disk and by `reportd open`, in a real Chromium."""

import threading
import zipfile
from pathlib import Path

import pytest

from server.archive.opened import Opened
from server.archive.serving import ArchiveServer
from tests.browser.test_results import BASE, HOSTILE, appears, complaints, make_result, press, shows
from tests.chromium import browser, chromium, until
from tests.makers import png
from tests.up_server import up_server

__all__ = ["browser", "chromium", "up_server"]  # fixtures

KINDS = "Log", "Runtime", "Network"


@pytest.fixture(scope="module")
def archive(up_server, tmp_path_factory) -> Path:
    """The zip of a run: a failed result of 6 steps with images, of two iterations; one of 30 results passed."""
    case, run = make_result(up_server)
    url = f"{BASE}/test-case-results/{case}"
    for category in ("before", "error"):
        fields = ("artifact_type", "screenshot"), ("step_number", "4"), ("artifact_category", category)
        up_server.send(
            f"{url}/artifacts", ("file", f"{category}.png", png(300, 200, seed=len(category)), "image/png"), *fields
        )
    again = {"step_number": 1, "iteration_number": 2, "step_type": "ui", "description": "again", "status": "Passed"}
    late = {"step_number": 7, "step_type": "ui", "status": "Passed", "screenshot_path": "never.png"}
    up_server.ask_json("POST", f"{url}/steps/bulk", {"steps": [again, late]}, status=201)
    others = [{"name": f"test {n} {HOSTILE}", "status": "Passed"} for n in range(30)]
    up_server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases/bulk", {"test_cases": others}, status=201)
    path = tmp_path_factory.mktemp("archive") / "run.zip"
    path.write_bytes(up_server.ask("GET", f"{BASE}/suite-runs/{run}/archive").body)
    return path


@pytest.fixture(scope="module")
def folder(archive) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(archive.with_suffix(""))
    return archive.with_suffix("")


async def opened(browser, address, width=1440):
    tab = await browser.open("about:blank")
    for domain in KINDS:
        await tab.command(f"{domain}.enable")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    await tab.command("Emulation.setDeviceMetricsOverride", **size)
    await tab.navigate(address)
    return tab


def quiet(tab):
    """No script failed, nothing was refused, and nothing came from elsewhere."""
    assert complaints(tab) == []
    urls = [each["request"]["url"] for each in tab.events_named("Network.requestWillBeSent")]
    assert all(url.startswith(("file:///", "about:", "data:")) for url in urls), urls


LOADED = "[...document.querySelectorAll('.shot img')].every((image) => image.complete && image.naturalWidth > 0)"


async def test_a_run_opens_from_a_disk_and_leads_to_its_results(browser, folder):
    tab = await opened(browser, f"file://{folder}/index.html")
    assert "1 failed test" in await tab.evaluate("document.body.innerText")
    assert await tab.evaluate("getComputedStyle(document.querySelector('.card')).display") != "inline"
    await tab.evaluate("document.querySelector('.shot img').scrollIntoView()")
    await appears(tab, "document.querySelector('.shot img').naturalWidth > 0")
    links = await tab.evaluate("[...document.links].map((each) => each.href)")
    inside = [each for each in links if not each.startswith("http")]
    missing = [each for each in inside if not Path(each.removeprefix("file://").partition("#")[0]).exists()]
    assert links == inside and missing == [], missing
    await tab.evaluate("document.querySelector('.card a').click()")
    await appears(tab, "document.querySelector('#stage [data-at=\"1.4\"]') !== null")
    quiet(tab)


async def test_every_step_and_image_mode_works_from_a_disk(browser, folder):
    (page,) = [path for path in folder.glob("results/*.html") if "pays by card" in path.read_text("utf-8")
               and "-2.html" not in path.name]  # fmt: skip
    tab = await opened(browser, f"file://{page}")
    await appears(tab, f"document.querySelector('#stage h2').textContent.includes('Do 4') && {LOADED}")
    for key, step in (("j", "1.5"), ("j", "1.6"), ("k", "1.5"), ("N", "1.4")):
        await press(tab, key)
        await shows(tab, step)
    modes = await tab.evaluate("document.querySelectorAll('.modes a').length")
    assert modes >= 5
    for mode in range(modes):
        await press(tab, str(mode + 1))
        await appears(tab, f"document.querySelectorAll('.modes a')[{mode}].getAttribute('aria-current') === 'true'")
        await appears(tab, LOADED)
    assert "view=" in await tab.evaluate("location.search")
    before = await tab.evaluate("document.querySelector('#stage').innerHTML")
    await tab.command("Page.reload")
    await appears(tab, f"document.querySelector('#stage')?.innerHTML.length === {len(before)}")
    await tab.evaluate("document.querySelectorAll('.steps .rows a')[6].click()")
    await shows(tab, "1.7")
    assert "was named by the client and never arrived" in await tab.evaluate(
        "document.querySelector('#stage').innerText"
    )
    await tab.evaluate("document.querySelectorAll('.iterations a')[1].click()")
    await appears(tab, "document.querySelector('#stage [data-at=\"2.1\"]') !== null")
    assert (await tab.evaluate("location.pathname")).endswith("-2.html")
    quiet(tab)


async def test_hostile_text_stays_text_in_every_page(folder):
    for path in folder.rglob("*.html"):
        text = path.read_text("utf-8")
        assert "<img src=x" not in text and " style=" not in text and " onerror=" not in text.replace("x onerror=", "")
        assert 'http-equiv="Content-Security-Policy"' in text


async def test_the_policy_of_the_pages_is_in_force_from_a_disk(browser, folder):
    tab = await opened(browser, f"file://{folder}/index.html")
    await tab.evaluate("document.body.setAttribute('style', 'color: red')")
    await until(lambda: len(complaints(tab)) > 0, lambda: "nothing was refused")
    assert await tab.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"


async def test_reportd_open_serves_what_a_disk_does_not_allow(browser, archive):
    with Opened(archive) as opened_archive, ArchiveServer(opened_archive, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            tab = await opened(browser, server.url)
            await tab.evaluate("document.querySelector('.card a').click()")
            await appears(tab, "document.querySelector('a[data-view=difference]') && document.readyState[0] === 'c'")
            await tab.evaluate("document.querySelector('a[data-view=difference]').click()")
            await appears(tab, "document.querySelector('.counted')?.textContent.includes('of the pixels differ')")
            assert complaints(tab) == []
        finally:
            server.shutdown()
            thread.join()
