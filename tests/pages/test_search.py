"""The page of the search, and the box at the top of every page."""

from urllib.parse import quote

import pytest

from server.reports import search
from tests.pages.conftest import EVIL
from tests.pages.test_suite_runs import words_of


@pytest.fixture
def fail(make_case):
    async def make(name, message="no button"):
        return await make_case(name=name, test_id=f"id/{name}", status="Failed", error_message=message)

    return make


async def test_errors_and_tests_that_fit_are_found(visit, fail):
    await fail("pays by card", "order 7 of the mug is gone")
    newest = await fail("returns a mug", "no button")
    page = await visit("/search?q=mug")
    text = words_of(page)
    assert "Errors 1 1 × order 7 of the mug is gone" in text
    assert "Tests 1 ✕ returns a mug id/returns a mug newest result" in text
    assert page.count("<mark>mug</mark>") == 3  # in the error, the name and the id
    assert 'href="/tests?project=default&amp;id=id%2Freturns+a+mug"' in page and f'href="/results/{newest}"' in page
    assert 'href="/errors/default/' in page and 'name="q" type="search" value="mug"' in page
    text = words_of(await visit("/search?q=mug&in=tests&project=default"))
    assert "Tests 1" in text and "Errors 1" not in text
    assert "pays by card" in words_of(await visit("/search?q=CARD%20pay"))  # words, in any order


async def test_no_text_no_hit_and_a_short_text_have_a_sentence_each(visit, fail):
    await fail("pays by card")
    for query in ("", "?q=", "?q=%20%20"):
        assert "Finds errors by all words of their text" in words_of(await visit(f"/search{query}"))
    assert "“p” is too short. Type at least 2 characters." in words_of(await visit("/search?q=p"))
    assert "Nothing fits “zebra”. Try fewer or shorter words" in words_of(await visit("/search?q=zebra"))
    text = words_of(await visit("/search?q=card&project=x"))
    assert "Nothing in x fits “card”. Search all projects" in text
    assert "Search everything" in words_of(await visit("/search?q=zebra&in=tests"))
    for query in (f"q={'x' * 256}", "q=ab&in=runs"):
        assert "To the runs" in await visit(f"/search?{query}", 422)


async def test_a_search_that_ended_early_says_so(visit, fail, monkeypatch):
    for number in range(3):
        await fail(f"pays {number}")
    monkeypatch.setattr(search, "_ENOUGH", 1)
    monkeypatch.setattr(search, "_TESTS_AT_ONCE", 1)
    assert "There is more than could be searched in time" in words_of(await visit("/search?q=pays"))


async def test_other_projects_are_not_searched(visit, fail, make_token):
    await fail("secret name", "secret text")
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='viewer')}"}
    for query in ("q=secret", "q=secret&project=default"):
        page = await visit(f"/search?{query}", **theirs)
        assert "secret name" not in page and "secret text" not in page


async def test_every_page_has_the_box_but_that_of_the_search(visit, make_run):
    run = await make_run()
    for path in ("/", f"/runs/{run}", "/errors", "/help"):
        page = await visit(path)
        assert page.count('<form class="find" action="/search" method="get" role="search"') == 1
        assert 'class="search" href="/search"' in page  # on phones
        assert page.count("/static/keys.") == 1
    page = await visit("/search")
    assert 'class="find"' not in page and 'class="search" href="/search" aria-current="page"' in page


async def test_hostile_text_stays_text(visit, fail):
    await fail(f"mug {EVIL}", f"mug {EVIL}")
    for query in ("mug", quote(EVIL), quote(f"mug {EVIL}")):
        page = await visit(f"/search?q={query}")
        assert "&lt;script&gt;" in page and "<script>alert" not in page and "\x1b" not in page
    assert "<mark>" in await visit(f"/search?q={quote('<script>')}")


async def test_without_a_database_there_is_still_a_page(visit, database_away):
    database_away()
    page = await visit("/search?q=mug", 503)
    assert "Nothing is lost" in page and 'href="/search?q=mug"' in page
