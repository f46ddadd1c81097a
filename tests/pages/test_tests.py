"""The page of one test: marks with their evidence, charts, errors, results and filters."""

import re
from html import unescape
from uuid import UUID

import pytest

from server.http.cursor import cursor_of
from tests.pages.conftest import EVIL
from tests.pages.test_suite_runs import words_of

API = "/api/v1/reports"


@pytest.fixture
def run_test(client, make_run, make_case):
    """await run_test("Passed", "Failed", …, commit_sha=…, case={…}): the ids of attempts of one test in a new run."""

    async def run(*statuses, case=(), **fields):
        run_id = await make_run(**{"branch": "main", **fields})
        of_case = {"name": "pays by card", "test_id": "shop.pay", **dict(case)}
        attempts = [
            await make_case(run=run_id, status=status, attempt=number, **of_case)
            for number, status in enumerate(statuses, 1)
        ]
        return attempts if len(attempts) > 1 else attempts[0]

    return run


async def test_a_test_shows_what_it_did(visit, run_test):
    old = await run_test("Passed", commit_sha="1111111aa", case={"duration_ms": 3_000})
    failure = {"duration_ms": 9_000, "error_type": "TimeoutError", "error_message": "no button after 30 s"}
    first = await run_test("Failed", commit_sha="2222222aa", case=failure)
    second = await run_test("Failed", commit_sha="3333333aa", environment="staging", case=failure)
    page = await visit("/tests?project=default&id=shop.pay")
    text = words_of(page)
    assert "Fails in the newest run, main" in text and "Failing since 2222222 : 2 results in a row" in text
    assert f'href="/results/{first}"' in page and "New failure" not in text
    assert "✕ 2 failed ✓ 1 passed median 9.0 s p95 9.0 s" in text
    assert "2 × TimeoutError: no button after 30 s newest result" in text
    assert re.search(r'href="/errors/default/[0-9a-f]{32}"', page)
    table = page.partition("<table")[2]
    assert table.index(second) < table.index(first) < table.index(old)
    assert "✕ Failed nightly TimeoutError: no button after 30 s main 3333333 staging 9.0 s now" in text
    chart = page.partition("<figure")[2].partition("</figure>")[0]
    assert chart.index(old) < chart.index(first) < chart.index(second)  # newest right
    assert chart.count("<title>") == 6  # three statuses and three durations


async def test_marks_link_to_what_proves_them(visit, run_test):
    failed, passed = await run_test("Failed", "Passed", commit_sha="8f14e45aa")
    for _ in range(3):
        await run_test("Passed", commit_sha="9f14e45aa")
    page = await visit("/tests?id=shop.pay")
    text = words_of(page)
    assert "↻ Flaky: 1 of 2 commits" in text and "Passes in the newest run" in text
    marks = page.partition('class="evidence"')[2].partition("</ul>")[0]
    assert f'href="/results/{failed}"' in marks and f'href="/results/{passed}"' in marks
    assert f'href="/results/{failed}/compare?with={passed}"' in marks


async def test_a_new_failure_a_retry_and_a_slowdown_are_marked(visit, run_test):
    for number in range(12):
        await run_test("Passed", case={"duration_ms": 1_000 if number < 6 else 9_000})
    assert "Slower: 9.0 s, was 1.0 s" in words_of(await visit("/tests?id=shop.pay"))
    await run_test("Failed")
    assert "New failure" in words_of(await visit("/tests?id=shop.pay"))
    await run_test("Failed", "Passed")
    assert "Flaky here: passed after a failed attempt" in words_of(await visit("/tests?id=shop.pay"))


async def test_each_browser_of_the_newest_run_has_its_marks(visit, client, make_run, make_case):
    for statuses in (("Passed", "Passed"), ("Failed", "Passed")):
        run = await make_run()
        for browser, status in zip(("chromium", "firefox"), statuses, strict=True):
            await make_case(run=run, browser=browser, status=status)
    text = words_of(await visit("/tests?id=login%20works"))
    assert "Fails in the newest run, chromium" in text and "Passes in the newest run, firefox" in text
    text = words_of(await visit("/tests?id=login%20works&browser=firefox"))
    assert "chromium, now" not in text and "Passes in the newest run, firefox" in text


async def test_the_marks_are_those_of_the_main_branch_when_it_has_results(visit, run_test):
    await run_test("Failed")
    await run_test("Failed")
    await run_test("Passed", branch="feature")
    assert "Fails in the newest run, main" in words_of(await visit("/tests?id=shop.pay"))
    text = words_of(await visit("/tests?id=shop.pay&branch=feature"))
    assert "Passes in the newest run, feature" in text and "Failing since" not in text


async def test_filters_are_a_form_and_are_in_every_address(visit, client, run_test):
    kept = await run_test("Passed", branch="fix/basket & co", environment="staging")
    other = await run_test("Failed")
    page = await visit("/tests?id=shop.pay&branch=fix%2Fbasket+%26+co&environment=staging")
    assert kept in page and other not in page
    assert "<option selected>fix/basket &amp; co</option>" in page and "<option>main</option>" in page
    assert '<form class="filters three" action="/tests" method="get"' in page
    assert '<input type="hidden" name="id" value="shop.pay">' in page
    reply = await client.get("/tests?project=default&id=shop.pay&branch=&browser=", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (303, "/tests?id=shop.pay&project=default")
    text = words_of(await visit("/tests?id=shop.pay&branch=mian&browser=x"))
    assert "No result of this test has branch mian and browser x. Remove the filters" in text


async def test_results_are_in_pages(visit, make_run, client, run_test):
    run = await make_run(branch="main")
    cases = [{"name": "shop.pay", "status": "Passed", "attempt": number} for number in range(1, 121)]
    await client.post(f"{API}/suite-runs/{run}/test-cases/bulk", json={"test_cases": cases})
    address, seen = "/tests?id=shop.pay&branch=main", []
    while address:
        page = await visit(address)
        assert page.partition("<figure")[2].count("<title>") == 100  # no durations: the strip alone
        seen += re.findall(r'class="is"><a href="/results/([^"]+)', page)
        found = re.search(r'href="([^"]+)" rel="next"', page)
        address = unescape(found[1]) if found else None
    assert len(seen) == len(set(seen)) == 120 and "‹ Newest" in page
    end = cursor_of(UUID(int=1))
    assert "There are no older results." in words_of(await visit(f"/tests?id=shop.pay&cursor={end}"))


async def test_what_does_not_exist_gets_a_sentence(visit, run_test, make_token):
    await run_test("Passed")
    assert "Test not found" in await visit("/tests?id=unknown", 404)
    assert "Test not found" in await visit("/tests?id=shop.pay&project=unknown", 404)
    for query in ("", "?id=", "?id=shop.pay&cursor=!", "?id=shop.pay&cursor=AAAA", f"?id={'x' * 501}"):
        page = await visit(f"/tests{query}", 422)
        assert "<h1>" in page and "To the runs" in page
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='viewer')}"}
    assert "Test not found" in await visit("/tests?id=shop.pay&project=default", 404, **theirs)


async def test_hostile_text_stays_text(visit, run_test):
    fields = {"name": EVIL, "branch": EVIL, "environment": EVIL, "commit_sha": "<u>1"}
    case = {"name": EVIL, "browser": "<i>", "error_type": EVIL, "error_message": EVIL}
    await run_test("Failed", "Passed", **fields, case=case)
    await run_test("Failed", **fields, case=case)
    page = await visit("/tests?id=shop.pay")
    assert page.count("&lt;script&gt;") > 10 and "<script>alert" not in page and "\x1b" not in page
    assert not re.search(r"<i>|<u>1|\son\w+=|\sstyle=", page)


async def test_without_a_database_there_is_still_a_page(visit, run_test, database_away):
    await run_test("Passed")
    await visit("/tests?id=shop.pay")
    database_away()
    page = await visit("/tests?id=shop.pay", 503)
    assert "Nothing is lost" in page and 'href="/tests?id=shop.pay"' in page
