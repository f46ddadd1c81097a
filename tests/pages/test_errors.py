"""The pages of errors: those seen last, and one with its days, tests and results."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import quote

import pytest

from tests.pages.conftest import EVIL
from tests.pages.test_suite_runs import words_of

API = "/api/v1/reports"


@pytest.fixture
def fail(client, make_run, make_case):
    """await fail("message", name=…, run={…}): the id of a new failed result."""

    async def make(message, run=(), **fields):
        run_id = await make_run(**{"branch": "main", **dict(run)})
        return await make_case(run=run_id, status="Failed", error_message=message, **fields)

    return make


async def address_of(visit, number=0, query=""):
    return unescape(re.findall(r'href="(/errors/[^"]+/[0-9a-f]{32})"', await visit(f"/errors{query}"))[number])


async def test_errors_are_listed_the_one_seen_last_first(visit, fail):
    long_ago = {"started_at": (datetime.now(UTC) - timedelta(days=3)).isoformat()}
    await fail("order 1 is gone", error_type="KeyError", run=long_ago)
    await fail("no button")
    await fail("order 2 is gone\nand line 2", error_type="KeyError") and await fail(
        "order 3 is gone", error_type="KeyError"
    )
    text = words_of(await visit("/errors"))
    assert text.index("2 × KeyError: order 1 is gone last now · first 3 days ago") < text.index(
        "1 × no button once, now"
    )
    assert "1 × KeyError: order 2 is gone and line 2" in text


async def test_an_error_shows_its_text_days_tests_and_results(visit, fail):
    day = datetime.now(UTC) - timedelta(days=3)
    first = await fail("order 1 is gone", name="a", run={"started_at": day.isoformat(), "commit_sha": "1111111aa"})
    last = [await fail(f"order {n} is gone", name="b", run={"commit_sha": "2222222aa"}) for n in (2, 3)][-1]
    address = await address_of(visit)
    page = await visit(address)
    text = words_of(page)
    assert "order <n> is gone" in text and "order 1 is gone" in text  # the stable text, and a sample
    assert "Failures 3 results of 2 tests in 90 days" in text
    assert "First seen 3 days ago , main 1111111 run Last seen now , main 2222222 run" in text
    assert f'href="/results/{first}"' in page and f'href="/results/{last}"' in page
    chart = page.partition("<figure")[2].partition("</figure>")[0]
    assert chart.count("<title>") == 90 and chart.count('class="cell"') == 2
    assert f"<title>{day:%Y-%m-%d}: 1</title>" in chart
    assert re.findall(r'<td>([\d-]+)</td><td class="number">(\d+)</td>', chart) == [
        (f"{datetime.now(UTC):%Y-%m-%d}", "2"),
        (f"{day:%Y-%m-%d}", "1"),
    ]
    assert 'href="/tests?project=default&amp;id=b"' in page and "2 × b history ›" in text
    assert page.rindex(last) < page.rindex(first)


async def test_errors_are_in_pages_and_by_project(visit, client, fail, make_token, monkeypatch):
    monkeypatch.setattr("server.pages.errors._LISTED", 2)
    for word in ("one", "two", "three", "four", "five"):
        await fail(f"error {word}")
    address, seen = "/errors?project=default", []
    while address:
        page = await visit(address)
        seen += re.findall(r"error (\w+)</bdi>", page)
        found = re.search(r'href="([^"]+)" rel="next"', page)
        address = unescape(found[1]) if found else None
    assert seen == ["five", "four", "three", "two", "one"] and 'href="/errors?project=default">‹ Newest' in page
    reply = await client.get("/errors?project=", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (303, "/errors")
    assert "There is no project x that you may see" in words_of(await visit("/errors?project=x"))


async def test_a_run_and_a_result_lead_to_their_errors(visit, make_run, make_case):
    run = await make_run()
    case, _ = [await make_case(run=run, name=name, status="Failed", error_message="boo") for name in ("a", "b")]
    address = await address_of(visit)
    page = await visit(f"/runs/{run}")
    assert f'<a href="{address}">2 results of this error</a>' in page and "new error · 2 results" in words_of(page)
    assert f'<a href="{address}">all results of this error</a>' in await visit(f"/results/{case}")
    assert "of this error" not in await visit(f"/results/{await make_case(run=run, status='Passed')}")
    assert '<a class="wide" href="/errors" aria-current="page">Errors</a>' in await visit("/errors")


async def test_without_errors_there_is_a_sentence(visit, make_run):
    assert "No test has failed with an error yet." in words_of(await visit("/errors"))
    await make_run()
    assert "No test has failed with an error in default yet." in words_of(await visit("/errors?project=default"))


async def test_other_projects_errors_are_not_there(visit, fail, make_token):
    await fail("secret text")
    address = await address_of(visit)
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='viewer')}"}
    assert "secret text" not in await visit("/errors", **theirs)
    assert "secret text" not in await visit("/errors?project=default", **theirs)
    for path in (address, address.replace("default", "theirs")):
        assert "Error not found" in await visit(path, 404, **theirs)
    unknown = ("0" * 32, "x", "%00", address.rpartition("/")[2].upper())
    for path in [address.replace("default", "unknown"), *(f"/errors/default/{each}" for each in unknown)]:
        assert "Error not found" in await visit(path, 404)
    assert "To the runs" in await visit("/errors?cursor=!", 422)


async def test_a_project_may_have_any_name(client, visit, make_token):
    name = "a/b {c}?&ü 5%"
    theirs = {"Authorization": f"Bearer {make_token(project=name)}"}
    run = await (await client.post(f"{API}/suite-runs", json={"name": "x"}, headers=theirs)).json()
    case = {"name": "y", "status": "Failed", "error_message": "boo"}
    await client.post(f"{API}/suite-runs/{run['id']}/test-cases", json=case, headers=theirs)
    address = await address_of(visit)
    assert address.startswith(f"/errors/{quote(name, safe='')}/")
    assert "boo" in await visit(address)


async def test_hostile_text_stays_text(visit, fail):
    run = {"name": EVIL, "branch": EVIL, "commit_sha": "<i>1"}
    for _ in range(2):
        await fail(f"{EVIL}<u>", error_type=EVIL, name=EVIL, browser="<i>", run=run)
    for path in ("/errors", await address_of(visit)):
        page = await visit(path)
        assert page.count("&lt;script&gt;") > 1 and "<script>alert" not in page and "\x1b" not in page
        assert "<i>" not in page and "<u>" not in page


async def test_without_a_database_there_is_still_a_page(visit, fail, database_away):
    await fail("boo")
    address = await address_of(visit)
    database_away()
    for path in ("/errors", address):
        assert "Nothing is lost" in await visit(path, 503)
