"""The page of insights, and the selectors that a result and the search name."""

import re

import pytest

from tests.api.test_insights import BASE, click, send
from tests.pages.conftest import EVIL

__all__ = ["send"]  # a fixture


@pytest.fixture
async def failures(send):
    """A run in which one selector failed in three tests, and a test that was flaky."""
    tests = [
        {"name": f"pays {n}", "status": "Failed", "duration_ms": 1000 + n, "steps": [click("#pay", "Failed")]}
        for n in range(3)
    ]
    shaky = [
        {"name": EVIL, "test_id": "s", "status": word, "attempt": n} for n, word in enumerate(("Failed", "Passed"), 1)
    ]
    return await send([*tests, *shaky, {"name": "slow one", "duration_ms": 61_000}], commit_sha="abc1234")


async def test_each_tab_has_its_table(visit, failures):
    flaky = await visit("/insights?project=default")
    assert "of 1" in flaky and "abc1234" in flaky and "<script>alert" not in flaky
    assert "61.0 s" in (slow := await visit("/insights?show=slow")) or "1 min 1 s" in slow
    selectors = await visit("/insights?show=selectors")
    assert "All 1 run of 30 days counted." in selectors
    assert re.search(r"<code><bdi dir=\"auto\">#pay</bdi></code>.*?<b>3</b>", selectors, re.DOTALL)
    assert "No selector of the counted runs contains" in await visit("/insights?show=selectors&q=%23nothing")
    trends = await visit("/insights?show=trends&days=7")
    assert trends.count("<rect") == 2 and "As a table" in trends


async def test_runs_that_are_not_counted_are_named_with_the_way_on(visit, send):
    for _ in range(11):
        await send([])
    text = await visit("/insights?show=selectors&days=7")
    assert '10 of 11 runs counted. <a href="/insights?show=selectors&amp;days=7">' in text
    assert "All 11 runs of 7 days counted." in await visit("/insights?show=selectors&days=7")


async def test_nothing_to_show_is_said(visit, make_run, client):
    for show in ("flaky", "slow", "selectors", "trends"):
        text = await visit(f"/insights?show={show}")
        assert 'class="nothing"' in text or "No project" in text, show
        assert "There is no project" in await visit(f"/insights?show={show}&project=other")
    await visit("/insights?show=nonsense", status=422)
    reply = await client.get("/insights?show=slow&q=", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (303, "/insights?show=slow")


async def test_a_failed_step_says_in_how_many_tests_its_selector_failed(visit, failures, client):
    cases = await (await client.get(f"{BASE}/suite-runs/{failures}/test-cases")).json()
    (case,) = [each["id"] for each in cases["items"] if each["name"] == "pays 1"]
    text = await visit(f"/results/{case}")
    assert "This selector failed in" in text and "3 tests of this run" in text
    assert "/insights?show=selectors&amp;project=default&amp;q=%23pay" in text
    link = await (await client.post(f"{BASE}/links", json={"test_case_result_id": case})).json()
    assert "This selector failed" not in await visit(link["url"], Accept="text/html")


async def test_search_finds_selectors_that_were_counted(visit, failures):
    assert "Selectors" not in await visit("/search?q=%23pa&in=selectors")
    await visit("/insights?show=selectors")
    text = await visit("/search?q=%23PA&in=selectors")
    assert "<mark>#pa</mark>y" in text and "3 of 3 failed" in text
