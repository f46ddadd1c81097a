"""What pages fetch while something runs: only what changes, and 304 as long as nothing has."""

import re
from datetime import UTC, datetime

import pytest

API = "/api/v1/reports"


@pytest.fixture
def look(client):
    """await look(address, tag): the status, text and ETag of a fragment."""

    async def get(address, tag="", status=200):
        reply = await client.get(address, headers={"If-None-Match": tag, "X-Fragment": "1"})
        assert reply.status == status, await reply.text()
        return await reply.text(), reply.headers.get("ETag")

    return get


@pytest.fixture
def polled(visit):
    """await polled(path): the address that the scripts of a page fetch, or None."""

    async def get(path):
        found = re.search(r'data-live="([^"]*)"', await visit(path))
        return found and found[1].replace("&amp;", "&")

    return get


async def finish(client, run, status="Failed"):
    done = {"status": status, "finished_at": datetime.now(UTC).isoformat()}
    assert (await client.patch(f"{API}/suite-runs/{run}", json=done)).status == 200


async def test_a_running_run_has_a_fragment_with_its_numbers(client, make_run, make_case, look, polled):
    run = await make_run(name="nightly")
    await make_case(run=run, name="a", status="Failed")
    address = await polled(f"/runs/{run}?status=Passed")
    assert address == f"/runs/{run}?status=Passed&part=live&failed=1"
    text, tag = await look(address)
    assert "<b>1</b> failed" in text and "new failure" not in text and "<html" not in text and "data-over" not in text
    await look(address, tag, 304)
    for name in "bc":
        await make_case(run=run, name=name, status="Failed")
    text, other = await look(address, tag)
    assert "<b>3</b> failed" in text and f'href="/runs/{run}">2 new failures</a>' in text and other != tag
    assert 'data-title="✕ 3 · nightly"' in text and ">3 tests, 3 failed</p>" in text
    await finish(client, run)
    text, _ = await look(address, other)
    assert "data-over" in text and "Failed</span>" in text
    assert await polled(f"/runs/{run}") is None


async def test_the_list_of_runs_has_a_fragment_with_its_running_runs(client, make_run, make_case, look, polled, visit):
    done = await make_run(name="done")
    await finish(client, done)
    run = await make_run(name="nightly")
    address = await polled("/")
    assert address == f"/?part=live&newest={run}&runs={run}"
    text, tag = await look(address)
    assert f'id="run-{run}"' in text and done not in text and "new run" not in text
    await look(address, tag, 304)
    await make_case(run=run, status="Failed")
    text, tag = await look(address, tag)
    assert "<b>1</b> failed" in text
    await make_run(name="later")
    text, _ = await look(address, tag)
    assert '<a class="button" href="/">1 new run</a>' in text and "later" not in text
    assert f'id="run-{run}"' in await visit("/")


async def test_only_the_first_page_of_runs_is_live(make_run, polled, visit):
    for _ in range(26):
        await make_run()
    assert (await polled("/runs")).count("%2C") == 24
    (older,) = re.findall(r'href="(/runs\?cursor=[^"]+)"', await visit("/runs"))
    assert await polled(older) is None


async def test_the_page_of_an_empty_server_is_replaced_by_the_list(make_run, look, polled):
    assert await polled("/") == "/?part=live"
    text, tag = await look("/?part=live")
    assert "data-over" not in text
    await make_run()
    text, _ = await look("/?part=live", tag)
    assert 'data-over="reload"' in text


async def test_a_result_has_a_fragment_with_its_status_and_attempts(client, make_run, make_case, look, polled, visit):
    run = await make_run()
    case = await make_case(run=run, test_id="pay", name="pays", status="Pending")
    address = await polled(f"/results/{case}?step=1.1")
    assert address == f"/results/{case}?part=live&steps=0"
    text, tag = await look(address)
    assert "Pending</span>" in text and "Attempt" not in text and "new step" not in text
    await look(address, tag, 304)
    step = {"step_type": "ui", "status": "Failed"}
    steps = [{**step, "step_number": number} for number in (1, 2)]
    await client.post(f"{API}/test-case-results/{case}/steps/bulk", json={"steps": steps})
    await client.patch(f"{API}/test-case-results/{case}", json={"status": "Failed"})
    later = await make_case(run=run, test_id="pay", name="pays", attempt=2)
    text, tag = await look(address, tag)
    assert '<a class="button" href="">2 new steps</a>' in text and 'data-title="✕ pays"' in text
    assert f'href="/results/{later}"' in text and text.count("Attempt</span>") == 2
    await finish(client, run)
    assert "data-over" in (await look(address, tag))[0]
    assert await polled(f"/results/{case}") is None


async def test_a_run_that_is_silent_is_quiet(make_run, make_case, rows, look, visit):
    run = await make_run()
    case = await make_case(run=run, status="Failed")
    _, tag = await look(f"/runs/{run}?part=live")
    for table in ("suite_runs", "test_case_results"):
        rows(f"UPDATE {table} SET updated_at = now() - INTERVAL '125 min'")
    text, _ = await look(f"/runs/{run}?part=live", tag)
    assert "quiet for 2 h" in text and ", quiet</p>" in text
    for path in (f"/results/{case}", f"/runs/{run}", "/", f"/results/{case}?part=live", f"/?part=live&runs={run}"):
        assert "quiet for 2 h" in (await look(path))[0], path


async def test_without_scripts_there_is_a_link(make_run, make_case, visit):
    run = await make_run()
    case = await make_case(run=run)
    for path in (f"/runs/{run}?status=Passed", f"/results/{case}?step=1.1", "/runs?name=nightly"):
        assert f'<a id="refresh" href="{path}">Refresh</a>' in await visit(path)


@pytest.mark.parametrize(
    "query", ["part=all", "part=live&newest=x", "part=live&runs=x", "part=live&runs=" + "-" * 36, "part=live&runs=a,,b"]
)
async def test_a_query_that_is_none_is_refused(make_run, visit, query):
    await make_run()
    assert "Error 422" in await visit(f"/?{query}", 422)


async def test_what_is_gone_or_of_others_is_not_found(make_run, make_case, client, nobody, make_token, look, visit):
    run = await make_run(name="secret")
    case = await make_case(run=run)
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='admin')}"}
    for path in (f"/runs/{run}?part=live", f"/results/{case}?part=live"):
        assert (await nobody.get(path, headers=theirs)).status == 404
    reply = await nobody.get(f"/?part=live&runs={run}", headers=theirs)
    assert reply.status == 200 and "secret" not in await reply.text()
    assert (await client.delete(f"{API}/suite-runs/{run}")).status == 204
    for path in (f"/runs/{run}?part=live", f"/results/{case}?part=live"):
        await visit(path, 404)
    assert run not in (await look(f"/?part=live&runs={run}"))[0]
