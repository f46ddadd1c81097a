"""The help page, and the theme that it sets."""

import pytest

from server.compare import marks


async def test_help_has_the_rules_of_the_marks(client):
    page = await (await client.get("/help")).text()
    for text in (f"Within {marks.DAYS} days", f"{marks.CLEARED} results in a row", f"{marks.SLOWER_RATIO} times"):
        assert text in page
    assert 'id="keys"' in page and "keys." in page and "Times are in UTC." in page


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_a_theme_is_kept_in_a_cookie_without_scripts(client, nobody, theme):
    set_ = await nobody.post("/help", data={"theme": theme}, allow_redirects=False)
    assert (set_.status, set_.headers["Location"]) == (303, "/help#theme")
    cookie = set_.headers["Set-Cookie"]
    assert cookie.startswith(f"reportd_theme={theme};") and "SameSite=Lax" in cookie and "HttpOnly" in cookie
    for path in ("/help", "/runs", "/sign-in", "/results/x"):
        page = await (await client.get(path, headers={"Cookie": f"a=b; reportd_theme={theme}"})).text()
        assert f'<html lang="en" data-theme="{theme}">' in page
    page = await (await client.get("/help", headers={"Cookie": f"reportd_theme={theme}"})).text()
    assert f'value="{theme}" aria-pressed="true"' in page and page.count('aria-pressed="true"') == 1


async def test_the_theme_of_the_system_removes_the_cookie(client):
    reply = await client.post("/help", data={"theme": "auto"}, allow_redirects=False)
    assert 'reportd_theme=""' in reply.headers["Set-Cookie"] and "Max-Age=0" in reply.headers["Set-Cookie"]
    page = await (await client.get("/help", headers={"Cookie": "reportd_theme=pink"})).text()
    assert 'data-theme="auto"' in page


async def test_a_wrong_theme_and_a_page_of_another_site_are_refused(client):
    for data, headers, status in [
        ({"theme": "pink"}, {}, 422),
        ({}, {}, 422),
        ({"theme": "dark"}, {"Sec-Fetch-Site": "cross-site"}, 403),
    ]:
        reply = await client.post("/help", data=data, headers=headers, allow_redirects=False)
        assert reply.status == status and "Set-Cookie" not in reply.headers and reply.content_type == "text/html"
