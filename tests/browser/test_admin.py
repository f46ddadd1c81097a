"""The forms of the administration pages in a real Chromium, as a person who has signed in sees them."""

import pytest

from tests.browser.test_accessibility import AXE, STANDARD, violations
from tests.browser.test_pages import DESK, PHONE, SMALL, ask, at, enter, prefer, resize, sign_in, site, write
from tests.browser.test_results import appears
from tests.chromium import browser, chromium
from tests.up_server import up_server

__all__ = ["browser", "chromium", "site", "up_server"]  # fixtures


@pytest.fixture
async def tab(browser, up_server, site):
    """A tab that shows the tokens to the person `admin`."""
    tab = await browser.open("about:blank")
    await resize(tab, *DESK)
    await tab.navigate(f"{up_server.url}/admin/tokens")
    await sign_in(tab, up_server)
    await at(tab, "/admin/tokens")
    return tab


async def check(tab):
    """The forms meet WCAG, fit a phone, and are hit by a finger."""
    await tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    await tab.evaluate(AXE.read_text("utf-8") + ";0")
    for size in (DESK, PHONE):
        await resize(tab, *size)
        for scheme in ("light", "dark"):
            await prefer(tab, prefers_color_scheme=scheme)
            assert await violations(tab, STANDARD) == "", (size, scheme)
    assert "\n".join(await ask(tab, SMALL)) == ""
    await resize(tab, 320)
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 320


async def test_a_token_is_made_by_keyboard_and_its_secret_copied(tab, up_server):
    await check(tab)
    await tab.evaluate("document.getElementById('f-name').focus()")
    await write(tab, "made in a browser")
    await enter(tab)
    await appears(tab, "document.getElementById('secret')?.textContent.startsWith('rpt_')")
    assert (
        await tab.evaluate("document.querySelector('[data-copy]').hidden") is False
    )  # this machine's clipboard may be used
    await check(tab)
    ((token_id,),) = up_server.rows("SELECT id FROM tokens WHERE name = 'made in a browser'")
    await tab.navigate(f"{up_server.url}/admin/tokens?change={token_id}")
    assert not await tab.evaluate("document.body.textContent.includes('rpt_')")
    await check(tab)


async def test_the_forms_of_people_and_projects(tab, up_server):
    ((user_id,),) = up_server.rows("SELECT id FROM users WHERE name = 'anna of pages'")
    ((project_id,),) = up_server.rows("SELECT id FROM projects WHERE name = 'pages'")
    for path in ("people", f"people?change={user_id}", "projects", f"projects?change={project_id}"):
        await tab.navigate(f"{up_server.url}/admin/{path}")
        await check(tab)
