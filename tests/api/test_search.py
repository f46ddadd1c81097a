"""Search over HTTP."""

import pytest

from server.reports import search

PATH = "/api/v1/reports/search"


@pytest.fixture
def find(client):
    """await find(q, query…): the samples of the errors and the names of the tests that are found."""

    async def found(q, **query):
        reply = await client.get(PATH, params={"q": q, **query})
        assert reply.status == 200, await reply.text()
        body = await reply.json()
        assert body["complete"]
        return tuple(
            None if body[kind] is None else [each[name] for each in body[kind]]
            for kind, name in (("errors", "sample"), ("tests", "name"))
        )

    return found


@pytest.fixture
async def shop(make_run, make_case):
    """Four failures of four tests."""
    for name, text in [
        ("pays by card", "TimeoutError: waiting for locator('#pay') to be enabled"),
        ("pays by voucher", "order 4711 is missing in /ci/shop/pay.spec.ts"),
        ("searches a mug", "expected 3 results, got 4"),
        ("by card it is refunded", "card declined: voucher_expired"),
    ]:
        await make_case(name=name, test_id=f"tests/shop.spec.ts > {name}", status="Failed", error_message=text)


@pytest.mark.parametrize(
    ("q", "samples", "names"),
    [
        ("locator pay", ["TimeoutError: waiting for locator('#pay') to be enabled"], []),
        ("PAY", ["TimeoutError: ", "order 4711"], ["pays by voucher", "pays by card"]),
        ("enab", ["TimeoutError: "], []),
        ("nabled", ["TimeoutError: "], []),  # a part of a word
        ("pay.spec.ts", ["order 4711"], []),
        ("order 4711", ["order 4711"], []),
        ("order 9999 is missing", ["order 4711"], []),  # the same error with another number
        ("voucher", ["card declined"], ["pays by voucher"]),
        ("by card", [], ["by card it is refunded", "pays by card"]),
        ("card by", [], ["by card it is refunded", "pays by card"]),
        ("pays card", [], ["pays by card"]),
        ("shop.spec.ts > pays by car", [], ["pays by card"]),
        ("'; DROP TABLE errors; --", [], []),
        ("!!! & | <-> :*", [], []),
        ("\\ % _ ' \"", [], []),
        ("é", [], []),
        ("x" * 255, [], []),
    ],
)
async def test_what_is_found(find, shop, q, samples, names):
    found = await find(q)
    assert len(found[0]) == len(samples) and set(found[1]) == set(names)
    for sample in samples:
        assert any(each.startswith(sample) for each in found[0])


async def test_what_contains_the_text_itself_comes_first(find, make_case):
    for text in ("page not found", "not a page was found", "found page not"):
        await make_case(name=text, test_id=text, status="Failed", error_message=text)
    errors, tests = await find("page not")
    assert errors == tests == ["found page not", "page not found", "not a page was found"]


async def test_a_test_is_found_once_with_its_newest_result(client, make_case):
    for status in ("Failed", "Passed"):
        last = await make_case(name="pays", test_id="t", status=status)
    await make_case(name="buys", test_id="t2")
    found = await (await client.get(PATH, params={"q": "pays", "in": "tests"})).json()
    assert found["errors"] is None
    (test,) = found["tests"]
    assert (test["test_case_result_id"], test["status"], test["project"]) == (last, "Passed", "default")


async def test_kinds_and_projects(client, find, shop, make_run, make_case, make_token):
    make_token(project="web")
    run = await make_run(project="web")
    await make_case(run=run, name="pays in web", status="Failed", error_message="pay in web")
    assert await find("pay", **{"in": "errors"}) == ((await find("pay"))[0], None)
    assert await find("pay", **{"in": "tests,errors"}) == await find("pay")
    assert await find("pay", project="web") == (["pay in web"], ["pays in web"])
    assert await find("pay", project="unknown") == ([], [])
    headers = {"Authorization": f"Bearer {make_token(project='web', role='viewer')}"}
    body = await (await client.get(PATH, params={"q": "pay"}, headers=headers)).json()
    assert [each["sample"] for each in body["errors"]] == ["pay in web"] and len(body["tests"]) == 1
    body = await (await client.get(PATH, params={"q": "pay", "project": "default"}, headers=headers)).json()
    assert body["errors"] == body["tests"] == []


@pytest.mark.parametrize("query", [{}, {"q": ""}, {"q": "  "}, {"q": "x" * 256}, {"q": "x", "in": "logs"}, {"q": "\0"}])
async def test_wrong_queries(client, query):
    reply = await client.get(PATH, params=query)
    assert reply.status == 422, await reply.text()
    assert (await reply.json())["errors"][0]["path"] == ("in" if "in" in query else "q")


async def test_more_tests_than_one_statement_reads(find, client, make_run, monkeypatch):
    monkeypatch.setattr(search, "_TESTS_AT_ONCE", 3)
    run = await make_run()
    new = [{"name": f"test number {i}"} for i in range(17)]
    await client.post(f"/api/v1/reports/suite-runs/{run}/test-cases/bulk", json={"test_cases": new})
    assert set((await find("number"))[1]) == {each["name"] for each in new}
    assert (await find("number 16"))[1] == ["test number 16"]


async def test_a_search_that_takes_too_long_says_so(client, shop, monkeypatch):
    monkeypatch.setattr(search, "_TESTS_AT_ONCE", 1)
    monkeypatch.setattr(search, "_SECONDS", 0)
    monkeypatch.setattr(search.SQL.search, "errors_by_words", "SELECT pg_sleep(60), $1::uuid[], $2::text, $3::int")
    body = await (await client.get(PATH, params={"q": "pays"})).json()
    assert body["errors"] == [] and body["complete"] is False
    assert (await client.get("/api/v1/reports/suite-runs")).status == 200
