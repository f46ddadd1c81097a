"""Errors over HTTP: the list, one error, and the failed tests of a run by error."""

import pytest

BASE = "/api/v1/reports"
RUNS = f"{BASE}/suite-runs"


@pytest.fixture
def send(client, make_run):
    """await send({"test": "error" or None for passed}, run fields…): the run's id and the results by test."""

    async def sent(results, attempt=1, run=None, **fields):
        run = run or await make_run(**fields)
        new = [
            {"name": name, "status": "Failed" if error else "Passed", "error_message": error, "attempt": attempt}
            for name, error in results.items()
        ]
        reply = await client.post(f"{RUNS}/{run}/test-cases/bulk", json={"test_cases": new})
        return run, {case["name"]: case["id"] for case in (await reply.json())["test_cases"]}

    return sent


@pytest.fixture
def get(client):
    """await get(path, query…): the JSON of a 200."""

    async def got(path, **query):
        reply = await client.get(BASE + path, params=query)
        assert reply.status == 200, await reply.text()
        return await reply.json()

    return got


def brief(groups):
    return [(group["stable_text"], group["results"]) for group in groups]


async def test_errors_are_listed_by_their_last_result(send, get):
    first, made = await send({"a": "order 1 is missing", "b": "no button"}, branch="main", commit_sha="aa")
    last, new = await send({"a": "order 2 is missing", "b": None, "c": "order 3 is missing"}, branch="x")
    page = await get("/errors")
    assert brief(page["items"]) == [("order <n> is missing", 3), ("no button", 1)] and page["next_cursor"] is None
    group = page["items"][0]
    assert group["project"] == "default" and group["error_type"] is None and group["sample"] == "order 1 is missing"
    seen = group["first_seen"]
    assert (seen["test_case_result_id"], seen["suite_run_id"]) == (made["a"], first)
    assert (seen["branch"], seen["commit_sha"]) == ("main", "aa")
    seen = group["last_seen"]
    assert (seen["test_case_result_id"], seen["suite_run_id"], seen["branch"]) == (new["c"], last, "x")
    assert await get("/errors", project="default") == page
    assert (await get("/errors", project="unknown"))["items"] == []
    assert (await get("/errors", since="2999-01-01"))["items"] == []
    assert await get("/errors", since="2020-01-01") == page


async def test_pages_of_errors_have_each_error_once(send, get):
    await send({f"test {letter}": f"error {letter}" for letter in "abcdefg"})
    await send({"test c": "error c", "test a": "error a"})
    found, cursor = [], {}
    while cursor is not None:
        page = await get("/errors", limit=3, **cursor)
        found += brief(page["items"])
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
    assert found == [(f"error {letter}", 2 if letter in "ca" else 1) for letter in "acgfedb"]


async def test_an_error_has_its_days_tests_and_newest_results(send, get, rows):
    run, made = await send(
        {"a": "order 1 is missing", "b": "order 2 is missing", "c": None}, name="nightly", branch="m"
    )
    _, again = await send({"a": "order 3 is missing"})
    (listed,) = (await get("/errors"))["items"]
    shown = await get(f"/errors/{listed['fingerprint']}")
    (today,) = rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day")
    assert listed == {name: value for name, value in shown.items() if name in listed}
    assert sum(day["results"] for day in shown["days"]) == 3 and shown["days"][-1]["day"] <= today["day"]
    assert shown["tests"] == [
        {"test_id": "a", "name": "a", "results": 2},
        {"test_id": "b", "name": "b", "results": 1},
    ]
    assert [entry["id"] for entry in shown["newest"]] == [again["a"], made["b"], made["a"]]
    last = shown["newest"][-1]
    assert (last["suite_run_id"], last["suite_run_name"], last["branch"]) == (run, "nightly", "m")
    assert last["error_fingerprint"] == listed["fingerprint"] and last["status"] == "Failed"


async def test_an_error_without_results_is_gone(send, get, client):
    run, _ = await send({"a": "no button"})
    (listed,) = (await get("/errors"))["items"]
    assert (await client.delete(f"{RUNS}/{run}")).status == 204
    assert (await get("/errors"))["items"] == []
    reply = await client.get(f"{BASE}/errors/{listed['fingerprint']}")
    assert reply.status == 404 and (await reply.json())["code"] == "error_not_found"


@pytest.mark.parametrize("name", ["0" * 32, "x", "A" * 32, "0" * 31, "0" * 33, "%00", "..%2F" + "0" * 27])
async def test_unknown_fingerprints_are_404(client, name):
    assert (await client.get(f"{BASE}/errors/{name}")).status == 404


async def test_an_error_of_another_project_is_404(send, get, client, make_token):
    make_token(project="web")
    await send({"a": "no button"}, project="web")
    (listed,) = (await get("/errors", project="web"))["items"]
    path = f"/errors/{listed['fingerprint']}"
    assert (await client.get(BASE + path)).status == 404  # it is not in `default`
    assert (await get(path, project="web"))["project"] == "web"
    headers = {"Authorization": f"Bearer {make_token(project='web', role='viewer')}"}
    assert (await client.get(BASE + path, headers=headers)).status == 200
    headers = {"Authorization": f"Bearer {make_token(project='default')}"}
    assert (await client.get(f"{BASE}{path}?project=web", headers=headers)).status == 404
    reply = await client.get(f"{BASE}/errors?project=web", headers=headers)
    assert (await reply.json())["items"] == []


async def test_the_failed_tests_of_a_run_are_grouped_by_their_last_attempt(send, get, client):
    await send({"a": "order 7 is missing"}, commit_sha="aa")
    run, _ = await send(
        {"a": "order 1 is missing", "b": "order 2 is missing", "c": "no button", "d": "flaky", "e": None}
    )
    _, again = await send({"a": "order 3 is missing", "d": None}, attempt=2, run=run)
    await client.post(f"{RUNS}/{run}/test-cases", json={"name": "f", "status": "Failed"})
    shown = await get(f"/suite-runs/{run}/errors")
    assert shown["failed_tests"] == 4 and not shown["truncated"]
    groups = [
        (group["error"] and group["error"]["stable_text"], group["tests"], [each["name"] for each in group["results"]])
        for group in shown["groups"]
    ]
    assert groups == [("order <n> is missing", 2, ["b", "a"]), ("no button", 1, ["c"]), (None, 1, ["f"])]
    first, *_ = shown["groups"]
    assert first["results"][1]["id"] == again["a"] and first["results"][1]["attempt"] == 2
    assert first["error"]["first_seen"]["commit_sha"] == "aa" and first["error"]["results"] == 4
    passed, _ = await send({"a": None})
    assert (await get(f"/suite-runs/{passed}/errors"))["groups"] == []


async def test_many_failed_tests_of_one_error_are_counted(send, get):
    run, _ = await send({f"test {i}": "no button" for i in range(50)})
    (group,) = (await get(f"/suite-runs/{run}/errors"))["groups"]
    assert group["tests"] == 50 and len(group["results"]) == 20


HOSTILE = [
    "<script>alert(1)</script>",
    "\u202ertl",
    "\x1b[31mred\x1b[0m",
    "a\0b",
    "y" * 100_000,
    "' OR 1=1 --",
    "\x1b[" * 9,
]


async def test_hostile_text_is_grouped_and_comes_back_as_text(make_case, get):
    for text in HOSTILE:
        await make_case(status="Failed", error_message=text, error_type=text[:200])
    shown = (await get("/errors"))["items"]
    assert [group["sample"] for group in shown[::-1]] == [text.replace("\0", "\ufffd")[:2_000] for text in HOSTILE]
    assert {group["stable_text"] for group in shown} >= {"red", "<script>alert(<n>)</script>", "y" * 1_000}


@pytest.mark.parametrize("own", ["2026-01-20T23:30:00Z", None])
async def test_days_are_those_on_which_tests_ran(client, make_run, get, own):
    run = await make_run(started_at="2026-01-19T12:00:00Z")
    new = {"name": "a", "status": "Failed", "error_message": "no button", "started_at": own}
    reply = await client.post(f"{RUNS}/{run}/test-cases", json=new)
    assert reply.status == 201, await reply.text()
    (listed,) = (await get("/errors"))["items"]
    shown = await get(f"/errors/{listed['fingerprint']}")
    assert shown["days"] == [{"day": own[:10] if own else "2026-01-19", "results": 1}]
