"""`/latest` leads to the newest run with some values."""

from urllib.parse import quote

import pytest

from tests.pages.conftest import EVIL
from tests.pages.test_suite_runs import words_of


@pytest.fixture
def latest(client):
    """await latest(query): the address that /latest leads to."""

    async def get(query="", **headers):
        reply = await client.get(f"/latest{query}", headers=headers, allow_redirects=False)
        assert (reply.status, reply.headers["Cache-Control"]) == (302, "private, no-store"), await reply.text()
        return reply.headers["Location"]

    return get


async def test_it_leads_to_the_newest_run_with_these_values(latest, make_run):
    first = await make_run(name="nightly", branch="main", status="Passed")
    second = await make_run(name="nightly", branch="fix/ä", status="Failed")
    third = await make_run(name="smoke", branch="main")
    assert await latest() == await latest("?project=default") == f"/runs/{third}"
    assert await latest("?name=nightly") == await latest("?branch=fix/%C3%A4&status=failed") == f"/runs/{second}"
    assert await latest("?name=nightly&branch=main&status=") == f"/runs/{first}"


async def test_without_such_a_run_the_page_names_the_filters(visit, make_run):
    assert "There is no run yet" in words_of(await visit("/latest", 404))
    await make_run(branch="main")
    page = await visit("/latest?branch=mian&name=nightly", 404)
    assert "There is no run with the suite name “nightly” and the branch “mian” yet" in words_of(page)
    assert 'href="/runs?name=nightly&amp;branch=mian"' in page
    assert "“unknown”" in words_of(await visit("/latest?project=unknown", 404))
    page = await visit(f"/latest?branch={quote(EVIL)}", 404)
    assert "&lt;script&gt;" in page and "<script>alert" not in page and "\x1b" not in page
    for query in ("status=x", f"name={'x' * 501}"):
        assert "To the runs" in await visit(f"/latest?{query}", 422)


async def test_other_projects_runs_are_not_there(visit, make_run, make_token):
    await make_run()
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='viewer')}"}
    assert "There is no run yet" in words_of(await visit("/latest", 404, **theirs))
    assert "“default”" in words_of(await visit("/latest?project=default", 404, **theirs))


async def test_without_a_database_there_is_still_a_page(visit, database_away):
    database_away()
    assert "Nothing is lost" in await visit("/latest?branch=main", 503)
