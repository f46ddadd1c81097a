"""The history of a test over HTTP."""

import pytest

BASE = "/api/v1/reports"
PATH = f"{BASE}/tests"
ID = "tests/pay.spec.ts > pays > by card?&%"


@pytest.fixture
def send(make_run, make_case):
    """await send(result fields…, run={…}): the ids of a new run and a result of the test in it."""

    async def sent(run=None, **fields):
        run_id = await make_run(**(run or {}))
        return run_id, await make_case(run=run_id, **{"name": "pays by card", "test_id": ID, **fields})

    return sent


@pytest.fixture
def history(client):
    """await history(query…): the JSON of a 200."""

    async def got(**query):
        reply = await client.get(PATH, params={"test_id": ID, **query})
        assert reply.status == 200, await reply.text()
        return await reply.json()

    return got


async def test_results_are_listed_newest_first_with_facts_of_their_run(send, history):
    facts = {"branch": "main", "commit_sha": "aa", "environment": "staging", "build_url": "https://ci.example/1"}
    run, one = await send({**facts, "name": "nightly"}, status="Passed", duration_ms=300, browser="chromium")
    _, two = await send(status="Failed", error_message="no button", duration_ms=900, attempt=2)
    await send(name="another", test_id=ID + "x")
    shown = await history()
    assert (shown["test_id"], shown["name"], shown["next_cursor"]) == (ID, "pays by card", None)
    newest, oldest = shown["items"]
    assert (newest["id"], newest["status"], newest["attempt"], newest["branch"]) == (two, "Failed", 2, None)
    assert len(newest["error_fingerprint"]) == 32 and oldest["error_fingerprint"] is None
    assert oldest.items() >= {"id": one, "suite_run_id": run, "suite_run_name": "nightly", **facts}.items()
    assert oldest["browser"] == "chromium" and oldest["started_at"].endswith("Z")
    assert shown["summary"] == {
        **{"results": 2, "passed": 1, "failed": 1, "skipped": 0, "pending": 0},
        **{"median_ms": 300, "p95_ms": 900},
    }


async def test_filters_and_pages(send, history):
    made = []
    for number in range(7):
        run = {"branch": "main" if number % 2 else "dev", "environment": "staging" if number == 3 else "live"}
        made.append((await send(run, browser="firefox" if number == 5 else "chromium"))[1])
    ids = [entry["id"] for entry in (await history(branch="main"))["items"]]
    assert ids == [made[5], made[3], made[1]]
    assert [entry["id"] for entry in (await history(browser="firefox"))["items"]] == [made[5]]
    shown = await history(environment="staging", branch="main")
    assert [entry["id"] for entry in shown["items"]] == [made[3]] and shown["summary"]["results"] == 1
    shown = await history(branch="unknown")
    assert shown["items"] == [] and shown["summary"]["median_ms"] is None and shown["name"] == "pays by card"
    found, cursor = [], {}
    while cursor is not None:
        page = await history(limit=3, **cursor)
        assert page["summary"]["results"] == 7
        found += [entry["id"] for entry in page["items"]]
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
    assert found == made[::-1]


async def test_the_name_is_that_of_the_newest_result(send, history):
    await send()
    await send(name="pays by any card")
    assert (await history())["name"] == "pays by any card"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 422),
        ({"test_id": ""}, 422),
        ({"test_id": "x" * 501}, 422),
        ({"test_id": "\0"}, 422),
        ({"test_id": ID, "cursor": "nonsense!"}, 422),
        ({"test_id": ID, "limit": "0"}, 422),
        ({"test_id": "unknown"}, 404),
        ({"test_id": ID, "project": "unknown"}, 404),
    ],
)
async def test_wrong_queries(client, send, query, status):
    await send()
    reply = await client.get(PATH, params=query)
    assert reply.status == status, await reply.text()


async def test_a_test_of_another_project_is_404(client, send, history, make_token):
    make_token(project="web")
    await send({"project": "web"})
    assert (await client.get(PATH, params={"test_id": ID})).status == 404  # it is not in `default`
    assert len((await history(project="web"))["items"]) == 1
    headers = {"Authorization": f"Bearer {make_token(project='default')}"}
    assert (await client.get(PATH, params={"test_id": ID, "project": "web"}, headers=headers)).status == 404
    headers = {"Authorization": f"Bearer {make_token(project='web', role='viewer')}"}
    assert (await client.get(PATH, params={"test_id": ID}, headers=headers)).status == 200
