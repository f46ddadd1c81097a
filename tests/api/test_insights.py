"""Insights over HTTP: flaky and slow tests, selectors, trends."""

from datetime import UTC, datetime, timedelta

import pytest

from server.reports import insights

BASE = "/api/v1/reports"
NOW = datetime.now(UTC)


@pytest.fixture
def look(client):
    """await look(show, query…): the insights."""

    async def get(show, status=200, **query):
        reply = await client.get(f"{BASE}/insights", params={"show": show, **query})
        assert reply.status == status, await reply.text()
        return await reply.json()

    return get


@pytest.fixture
def send(client, make_run):
    """await send(tests, run fields…): a finished run with these tests, each a dict, `steps` among its fields."""

    async def finished(tests, **fields):
        run = await make_run(project="default", **fields)
        for test in tests:
            steps = test.pop("steps", [])
            made = await client.post(f"{BASE}/suite-runs/{run}/test-cases", json={"status": "Passed", **test})
            assert made.status == 201, await made.text()
            if steps:
                case = (await made.json())["id"]
                numbered = [{"step_number": at, "status": "Passed", **step} for at, step in enumerate(steps, 1)]
                sent = await client.post(f"{BASE}/test-case-results/{case}/steps/bulk", json={"steps": numbered})
                assert sent.status == 201, await sent.text()
        assert (await client.patch(f"{BASE}/suite-runs/{run}", json={"status": "Passed"})).status == 200
        return run

    return finished


async def test_flaky_tests_are_those_that_passed_and_failed_on_one_commit(look, send):
    shaky = [{"name": "shaky", "test_id": "s", "browser": "b"}]
    for commit, statuses in {"a1": ["Failed", "Passed"], "a2": ["Passed"], "a3": ["Failed", "Passed"]}.items():
        tests = [{**shaky[0], "status": status, "attempt": at} for at, status in enumerate(statuses, 1)]
        await send([*tests, {"name": "broken", "status": "Failed" if commit == "a2" else "Passed"}], commit_sha=commit)
    found = await look("flaky")
    assert (found["project"], found["selectors"], found["slow"], found["trends"]) == ("default", None, None, None)
    (test,) = found["flaky"]
    assert (test["test_id"], test["name"], test["browser"], test["status"]) == ("s", "shaky", "b", "Passed")
    assert (test["flaky"]["commits"], test["flaky"]["of"]) == (2, 3) and not found["limited"]
    assert [pair["commit_sha"] for pair in test["flaky"]["evidence"]] == ["a3", "a1"]


async def test_slow_tests_are_sorted_by_their_median(look, send, make_run, make_case):
    for n in range(8):  # the newest 5 take 9 s, the 3 before 1 s
        tests = [
            {"name": "slower", "duration_ms": 1_000 if n < 3 else 9_000},
            {"name": "steady", "duration_ms": 20_000 + n},
            {"name": "broken", "duration_ms": 90_000, "status": "Failed"},
            {"name": "unknown"},
        ]
        await send(tests)
    await make_case(run=await make_run(project="default"), name="running", status="Passed", duration_ms=99_000)
    steady, slower = (await look("slow"))["slow"]
    assert (steady["name"], steady["results"], steady["median_ms"], steady["slower"]) == ("steady", 8, 20_004, False)
    assert (slower["name"], slower["now_ms"], slower["before_ms"], slower["slower"]) == ("slower", 9_000, 1_000, True)
    assert (slower["total_ms"], slower["p95_ms"], slower["status"]) == (48_000, 9_000, "Passed")


def click(selector, status="Passed", name="Pay", ms=100, **fields):
    return {"element_selector": selector, "element_name": name, "status": status, "duration_ms": ms, **fields}


async def test_selectors_are_counted_ten_runs_at_a_time(look, send, rows, client):
    for n in range(12):
        failed = "Failed" if n in (0, 5) else "Passed"
        steps = [click("#old" if n < 6 else "#new", failed), {"action": "no selector"}, click("#x", name="")]
        tests = [{"name": f"test {at}", "status": failed, "steps": steps} for at in range(1 + (n == 5))]
        await send(tests, commit_sha=f"c{n}")
    first = (await look("selectors"))["selectors"]
    assert (first["runs"], first["counted"]) == (12, 10)
    found = (await look("selectors"))["selectors"]
    assert (found["runs"], found["counted"]) == (12, 12)
    assert (await look("selectors"))["selectors"] == found  # counted once
    (fragile,) = found["fragile"]
    assert (fragile["selector"], fragile["element_name"], fragile["used"]) == ("#old", "Pay", 7)
    assert (fragile["failed"], fragile["tests"]) == (3, 2)  # test 0 in two runs
    result = await (await client.get(f"{BASE}/test-case-results/{fragile['test_case_result_id']}")).json()
    assert result["status"] == "Failed"
    (changed,) = found["changed"]
    assert (changed["element_name"], changed["before"], changed["selector"]) == ("Pay", "#old", "#new")
    assert changed["commit_sha"] == "c6"
    every = (await look("selectors", q="#"))["selectors"]["fragile"]
    assert {each["selector"]: each["used"] for each in every} == {"#old": 7, "#new": 6, "#x": 13}
    assert (await look("selectors", q="' OR 1=1 --"))["selectors"]["fragile"] == []
    assert len(rows("SELECT FROM selector_uses WHERE hash = ''")) == 12
    search = await (await client.get(f"{BASE}/search", params={"q": "#OL", "in": "selectors"})).json()
    (hit,) = search["selectors"]
    assert (hit["project"], hit["selector"], hit["used"], hit["failed"]) == ("default", "#old", 7, 3)
    assert search["errors"] is search["tests"] is None


async def test_a_run_is_counted_when_it_is_finished_and_forgotten_when_it_is_deleted(
    look, send, make_run, rows, client
):
    await make_run(project="default")  # is running
    empty = await send([])
    run = await send([{"name": "x", "status": "Failed", "steps": [click("s" * 900, "Failed")]}])
    found = (await look("selectors"))["selectors"]
    assert (found["runs"], found["counted"]) == (2, 2)
    assert [each["selector"] for each in found["fragile"]] == ["s" * 500]
    for id_ in (empty, run):
        assert (await client.delete(f"{BASE}/suite-runs/{id_}")).status == 204
    assert rows("SELECT FROM selector_uses") == [] and (await look("selectors"))["selectors"]["runs"] == 0


async def test_of_many_selectors_those_that_failed_or_were_used_most_are_kept(look, send, rows, monkeypatch):
    """A suite may have an id in each selector: a run of 200,000 steps would add as many rows when somebody looks."""
    monkeypatch.setattr("server.reports.insights._SELECTORS", 3)
    steps = [click(f"#row-{n}", name="") for n in range(20)] + [click("#pay")] * 2 + [click("#buy", "Failed")]
    await send([{"name": "x", "steps": steps}])
    assert (await look("selectors"))["selectors"]["counted"] == 1
    kept = {row["selector"] for row in rows("SELECT selector FROM selector_uses WHERE hash <> ''")}
    assert {"#pay", "#buy"} < kept and len(kept) == 3


async def test_selectors_are_slower_in_the_newest_ten_runs(look, send, monkeypatch):
    monkeypatch.setattr(insights, "_AT_ONCE", 50)
    for n in range(12):
        await send([{"name": "x", "steps": [click("#a", "Failed" if n == 0 else "Passed", ms=100 if n < 2 else 400)]}])
    (found,) = (await look("selectors"))["selectors"]["fragile"]
    assert (found["now_ms"], found["before_ms"]) == (400, 100)


async def test_trends_have_every_day(look, send):
    def at(days):
        return (NOW - timedelta(days=days)).isoformat()

    await send([{"name": "a", "status": "Failed", "duration_ms": 5}, {"name": "b"}], started_at=at(2))
    await send([{"name": "a", "status": "Failed"}, {"name": "a", "attempt": 2}], started_at=at(2))
    await send([{"name": "a"}], started_at=at(30))
    days = (await look("trends", days=4))["trends"]
    assert [day["day"] for day in days] == [str((NOW - timedelta(days=ago)).date()) for ago in (3, 2, 1, 0)]
    assert days[1] == {
        "day": days[1]["day"], "runs": 2, "failed_runs": 1, "failed": 1, "flaky": 1, "passed": 1, "duration_ms": 5
    }  # fmt: skip
    assert [day["runs"] for day in days] == [0, 2, 0, 0]


async def test_only_the_newest_runs_are_looked_at(look, send, monkeypatch):
    monkeypatch.setattr(insights, "_RUNS", 2)
    monkeypatch.setattr(insights, "_DAILY_RUNS", 2)
    monkeypatch.setattr(insights, "_RESULTS", 3)
    for n in range(3):
        await send([{"name": f"test {n}", "duration_ms": 5}, {"name": "x", "duration_ms": 4}])
    assert (await look("selectors"))["selectors"]["runs"] == 2
    slow = await look("slow")
    assert slow["limited"] and sum(each["results"] for each in slow["slow"]) == 3
    trends = await look("trends")
    assert trends["limited"] and trends["trends"][-1]["runs"] == 2


@pytest.mark.parametrize("query", [{"days": 0}, {"days": 91}, {"days": "x"}, {"project": "nobody's"}, {"q": "x" * 256}])
async def test_wrong_values_are_refused(look, query):
    await look("slow", 422, **query)
    await look("nonsense", 422)


async def test_another_project_is_not_shown(look, send, nobody, make_token, make_run):
    await send([{"name": "x", "status": "Failed", "steps": [click("#secret", "Failed")]}])
    await look("selectors")
    token = make_token(project="theirs", role="admin")
    headers = {"Authorization": f"Bearer {token}"}
    for path in ("insights?show=selectors", "insights?show=slow", "search?q=secret"):
        reply = await nobody.get(f"{BASE}/{path}", headers=headers)
        assert reply.status == 200 and "#secret" not in await reply.text()
    assert (await nobody.get(f"{BASE}/insights?project=default", headers=headers)).status == 422
