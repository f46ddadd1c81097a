"""The page of a file in a real Chromium: paths of JSON and texts to copy, and a line that an address leads to."""

from tests.browser.test_pages import opened, press, site, visit
from tests.browser.test_results import appears, complaints
from tests.chromium import browser, chromium
from tests.up_server import up_server

__all__ = ["browser", "chromium", "opened", "site", "up_server", "visit"]  # fixtures

COPIES = "navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }"


def address_of(site, kind):
    return f"/results/{site.failed}/files/{site.files[kind]}"


async def test_the_path_of_a_value_is_shown_and_copied(visit, site):
    tab = await visit(address_of(site, "other application/json"))
    await tab.evaluate(COPIES)
    await tab.evaluate("document.querySelectorAll('.tree bdi.number')[0].click()")
    assert await tab.evaluate("document.getElementById('path').textContent") == '$["a line"][1]'
    await tab.evaluate("document.querySelectorAll('.tree li:not(:has(details))')[0].focus()")
    await tab.evaluate("document.querySelector('.path button').click()")
    assert await appears(tab, "window.copied") == '$["a line"][0]' and complaints(tab) == []


async def test_an_error_and_a_stack_trace_are_copied(visit, site):
    tab = await visit(f"/results/{site.failed}")
    await tab.evaluate(COPIES)
    await tab.evaluate("document.querySelector('#stage .problem .copy').click()")
    assert (await appears(tab, "window.copied")).startswith("TimeoutError\nwaiting for #pay")
    await press(tab, "t")
    await tab.evaluate("document.querySelector('#stage .trace .copy').click()")
    assert await appears(tab, "window.copied.startsWith('at') && window.copied") == "at pay.spec.ts:12\nat run.ts:3"
    assert await tab.evaluate("document.querySelector('.trace .copy').textContent") == "Copied"


async def test_an_address_leads_to_its_line(visit, site, up_server):
    """The line is in view although the tools stay at the top."""
    content = b"a line\n" * 1500
    url = f"/api/v1/reports/test-case-results/{site.passed}/artifacts"
    file = up_server.send(url, ("file", "long.log", content, "text/plain"), ("artifact_type", "log"))["id"]
    tab = await visit(f"/results/{site.passed}/files/{file}?line=1200#L1200")
    box = "document.getElementById('L1200').getBoundingClientRect()"
    assert await tab.evaluate(f"{box}.top > document.querySelector('.tools').getBoundingClientRect().bottom - 1")
    assert await tab.evaluate(f"{box}.bottom < innerHeight")
    assert await tab.evaluate("document.querySelector('.here').id") == "L1200"
