"""What is stored is counted by project, kind and day, and what was deleted is taken off again."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from server.ids import first_id
from server.reports import usage
from server.services import SERVICES
from tests.forms import post, single
from tests.makers import png

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def pool(client):
    return client.app[SERVICES].pool


async def counted(pool, projects=None):
    """{name: (results, files, bytes, screenshots, others)} after a complete count."""
    await usage.count(pool)
    while (await usage.total(pool, projects)).uncounted:
        await usage.count(pool)
    found, more = await usage.of_projects(pool, projects, 10)
    assert not more
    return {each.name: (each.results, each.files, each.bytes, each.screenshots, each.others) for each in found}


async def test_results_and_files_are_counted_by_project_kind_and_day(client, pool, make_run, make_case, rows):
    assert await counted(pool) == {"default": (0, 0, 0, 0, 0)}
    rows("INSERT INTO projects (name) VALUES ('shop')")
    shop = rows("SELECT id FROM projects WHERE name = 'shop'")[0]["id"]
    case = await make_case(run=await make_run(project="shop"))
    await make_case()
    picture, text = png(16, 16), b"a log"
    url = f"/api/v1/reports/test-case-results/{case}/artifacts"
    assert (await post(client, url, single(picture, artifact_type="screenshot")))[0] == 201
    other = single(text, file_name="a.txt", content_type="text/plain", artifact_type="other")
    status, reply = await post(client, url, other)
    assert status == 201
    sizes = len(picture) + len(text)
    assert await counted(pool) == {"shop": (1, 2, sizes, len(picture), len(text)), "default": (1, 0, 0, 0, 0)}
    assert await counted(pool, [shop]) == {"shop": (1, 2, sizes, len(picture), len(text))}
    assert await usage.total(pool, [shop]) == usage.Total(2, sizes, 0)
    assert (await usage.total(pool, [])).bytes == 0

    # A file of an earlier day, from before the first day that was counted.
    earlier = TODAY - timedelta(days=9)
    columns = "suite_run_id, project_id, name, test_id"
    rows(
        f"INSERT INTO test_case_results (id, {columns}) SELECT %s, {columns} FROM test_case_results WHERE id = %s",
        first_id(earlier),
        case,
    )
    rows("UPDATE test_artifacts SET id = %s WHERE artifact_type = 'screenshot'", first_id(earlier))
    assert (await counted(pool))["shop"] == (2, 2, sizes, len(picture), len(text))
    days = await usage.per_day(pool, None, 30)
    assert len(days) == 30 and days[-1].day == TODAY.date()
    assert {each.day: each.bytes for each in days if each.bytes} == {
        TODAY.date(): len(text),
        earlier.date(): len(picture),
    }

    # What was deleted on an earlier day, too, is taken off.
    for some_id in (reply["id"], str(first_id(earlier))):
        assert (await client.delete(f"/api/v1/reports/artifacts/{some_id}")).status == 204
    rows("UPDATE counted_days SET counted_at = NULL")
    assert (await counted(pool))["shop"] == (2, 0, 0, 0, 0)


async def test_several_workers_count_at_once(pool, make_case):
    await make_case()
    await asyncio.gather(*(usage.count(pool) for _ in range(5)))
    assert await counted(pool) == {"default": (1, 0, 0, 0, 0)}


async def test_ids_of_other_times_make_no_endless_lists(pool, make_run, rows):
    """Ids of other versions may look like any time; those before 2020 and after today are not counted."""
    run = await make_run()
    for some_id in ("00000000-0000-7000-8000-000000000001", "ffffffff-ffff-7fff-bfff-ffffffffffff"):
        rows(
            "INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id)"
            " SELECT %s, id, project_id, 'x', 'x' FROM suite_runs WHERE id = %s",
            some_id,
            run,
        )
    assert await counted(pool) == {"default": (0, 0, 0, 0, 0)}
    assert len(rows("SELECT FROM counted_days")) == 1
