"""Suite runs: created, found again by `run_key`, listed, changed and deleted."""

import asyncio
import uuid

import pytest
from aiohttp import FormData

from server.observe.audit import Actor
from server.reports import suite_runs
from server.services import SERVICES
from server.storage.marker import MARKER
from tests.api.test_steps import a_step, send_png
from tests.forms import CONTENT_TYPE, single
from tests.makers import png

RUNS = "/api/v1/reports/suite-runs"
EMPTY = {"total": 0, "passed": 0, "failed": 0, "skipped": 0, "pending": 0}
DESCRIBED = {
    "name": "nightly – äöü 🙂",
    "status": "Pending",
    "environment": "staging",
    "branch": "feature/x",
    "commit_sha": "a" * 64,
    "build_url": "https://ci.test/1",
    "browser": "Firefox 140",
    "platform": "Linux",
    "triggered_by": "cron",
    "tags": ["smoke", "nightly", "smoke"],
    "metadata": {"a": {"b": [1, 2.5, None, True, "ß"]}, "": 0},
    "started_at": "2026-01-24T12:00:00.123Z",
}


async def get(client, url=RUNS, **query):
    reply = await client.get(url, params=query)
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def names(client, **query):
    """The names of the listed runs, sorted."""
    return sorted(run["name"] for run in (await get(client, **query))["items"])


async def patch(client, run, **fields):
    reply = await client.patch(f"{RUNS}/{run}", json=fields)
    return reply.status, await reply.json()


# --- creating --------------------------------------------------------------------------------------------------


async def test_every_field_is_stored_and_returned(client):
    sent = {**DESCRIBED, "run_key": "build-7", "project": "default", "unknown": 1, "id": "x"}
    reply = await client.post(RUNS, json={**sent, "started_at": "2026-01-24T14:00:00.1239+02:00"})
    run = await reply.json()
    assert reply.status == 201
    assert {key: run[key] for key in DESCRIBED} == DESCRIBED
    assert (run["run_key"], run["project"], run["finished_at"]) == ("build-7", "default", None)
    assert run["test_counts"] == EMPTY and run["total_duration_ms"] == 0
    assert uuid.UUID(run["id"]).version == 7
    assert await get(client, f"{RUNS}/{run['id']}") == run
    assert (await get(client))["items"] == [run]


@pytest.mark.parametrize("filler", [{}, dict.fromkeys(["project", "run_key", *DESCRIBED])], ids=["absent", "null"])
async def test_only_a_name_is_required(client, rows, filler):
    run = await (await client.post(RUNS, json={**filler, "name": "x"})).json()
    for field in ("run_key", "environment", "branch", "commit_sha", "build_url", "browser", "platform", "triggered_by"):
        assert run[field] is None
    assert (run["project"], run["status"], run["tags"], run["metadata"]) == ("default", "Running", [], {})
    assert run["started_at"] == run["created_at"] == run["updated_at"]
    assert rows("SELECT extract(epoch FROM now() - started_at) < 60 AS fresh FROM suite_runs") == [{"fresh": True}]


async def test_the_longest_texts_are_accepted(client):
    """Lengths are in characters of up to four bytes. Indexed columns must hold them, too."""
    longest = {"name": 500, "run_key": 500, "branch": 500, "environment": 255, "commit_sha": 64, "build_url": 2000}
    body = {field: "🙂" * length for field, length in longest.items()}
    reply = await client.post(RUNS, json={**body, "tags": ["🙂" * 500] * 100})
    assert reply.status == 201, await reply.text()
    assert {field: len(value) for field, value in (await reply.json()).items() if field in longest} == longest


async def test_the_same_run_key_gives_the_same_run_unchanged(client, rows):
    first = await (await client.post(RUNS, json={"name": "one", "run_key": "k", "tags": ["a"]})).json()
    reply = await client.post(RUNS, json={"name": "two", "run_key": "k", "status": "Failed", "metadata": {"b": 1}})
    assert (reply.status, await reply.json()) == (200, first)
    other = await client.post(RUNS, json={"name": "one", "run_key": "K"})
    assert other.status == 201
    for _ in range(2):  # without a run_key, each request creates a run
        assert (await client.post(RUNS, json={"name": "one"})).status == 201
    assert len(rows("SELECT FROM suite_runs")) == 4


async def test_concurrent_shards_with_one_run_key_share_one_run(client, rows):
    body = {"name": "sharded", "run_key": "build-1"}
    replies = await asyncio.gather(*(client.post(RUNS, json=body) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] * 19 + [201]
    assert len({(await reply.json())["id"] for reply in replies}) == 1
    assert len(rows("SELECT FROM suite_runs")) == 1


# --- projects --------------------------------------------------------------------------------------------------


async def test_a_run_belongs_to_the_project_of_the_token(client, start, make_token):
    ours, theirs = await start(token=make_token(project="ours")), await start(token=make_token(project="theirs"))
    mine = await (await ours.post(RUNS, json={"name": "mine", "run_key": "k"})).json()
    yours = await (await theirs.post(RUNS, json={"name": "yours", "run_key": "k", "project": "theirs"})).json()
    assert (mine["project"], yours["project"]) == ("ours", "theirs")
    assert mine["id"] != yours["id"]
    refused = await ours.post(RUNS, json={"name": "x", "project": "theirs"})
    assert (refused.status, (await refused.json())["errors"][0]["path"]) == (422, "project")
    assert (await names(ours), await names(theirs), await names(client)) == (["mine"], ["yours"], ["mine", "yours"])


async def test_a_token_of_all_projects_can_choose_the_project(client, make_token):
    make_token(project="known")
    run = await (await client.post(RUNS, json={"name": "x", "project": "known"})).json()
    assert run["project"] == "known"
    reply = await client.post(RUNS, json={"name": "x", "project": "unknown"})
    assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "project")


async def test_a_run_of_another_project_is_a_404(client, start, make_token, make_run, make_case, rows):
    theirs = await start(token=make_token(project="theirs"))
    run = await make_run()
    await make_case(run)
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/test-cases"),
        ("POST", "/test-cases"),
        ("POST", "/test-cases/bulk"),
    ]:
        reply = await theirs.request(method, f"{RUNS}/{run}{path}", json={"name": "x", "test_cases": [{"name": "x"}]})
        assert (reply.status, (await reply.json())["detail"]) == (404, "Suite run not found"), (method, path)
    assert [row["name"] for row in rows("SELECT name FROM suite_runs")] == ["nightly"]
    assert len(rows("SELECT FROM test_case_results")) == 1


# --- listing ---------------------------------------------------------------------------------------------------


async def some_runs(make_run, count):
    """The ids of new runs, oldest first."""
    ids = []
    for number in range(count):
        ids.append(await make_run(name=f"run {number}"))
        await asyncio.sleep(0.002)  # ids of the same millisecond are in random order
    return ids


async def test_the_newest_run_is_listed_first(client, make_run):
    ids = await some_runs(make_run, 4)
    page = await get(client)
    assert [run["id"] for run in page["items"]] == ids[::-1]
    assert page["next_cursor"] is None


async def test_filters_choose_runs_by_exact_values(client, make_run):
    await make_run(name="a", status="Passed", branch="main", environment="prod", tags=["x", "y"], run_key="build-1")
    await make_run(name="b", status="Failed", branch="main", environment="test", tags=["y"])
    await make_run(name="a%", status="Passed", branch="dev")
    for query, expected in [
        ({"status": "Passed"}, ["a", "a%"]),
        ({"status": "Running"}, []),
        ({"name": "a"}, ["a"]),
        ({"name": "A"}, []),
        ({"name": "%"}, []),
        ({"branch": "main"}, ["a", "b"]),
        ({"environment": "prod"}, ["a"]),
        ({"tag": "y"}, ["a", "b"]),
        ({"tag": "x"}, ["a"]),
        ({"tag": "z"}, []),
        ({"run_key": "build-1"}, ["a"]),
        ({"run_key": "build"}, []),
        ({"run_key": "build-1", "branch": "dev"}, []),
        ({"status": "Passed", "branch": "main"}, ["a"]),
        ({"branch": "main", "tag": "y", "environment": "test"}, ["b"]),
        ({"name": "", "status": ""}, ["a", "a%", "b"]),  # empty filters, as from an HTML form, are ignored
    ]:
        assert await names(client, **query) == expected, query


async def test_since_is_inclusive_and_until_is_exclusive(client, make_run):
    for hour in ("10", "11", "12"):
        await make_run(name=hour, started_at=f"2026-01-24T{hour}:00:00Z")
    for query, expected in [
        ({"since": "2026-01-24T11:00:00Z"}, ["11", "12"]),
        ({"until": "2026-01-24T11:00:00Z"}, ["10"]),
        ({"since": "2026-01-24T11:00:00", "until": "2026-01-24T12:00:00"}, ["11"]),
        ({"since": "2026-01-24T13:00:00+02:00", "until": "2026-01-24T13:00:00.001+02:00"}, ["11"]),
        ({"since": "2026-01-24T11:00:00.000001Z"}, ["12"]),
        ({"until": "2026-01-23"}, []),
    ]:
        assert await names(client, **query) == expected, query


async def test_paging_misses_no_run_while_runs_are_added(client, make_run):
    ids = await some_runs(make_run, 7)
    seen, cursor = [], {}
    while cursor is not None:
        page = await get(client, limit=3, **cursor)
        seen.append([run["id"] for run in page["items"]])
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
        await make_run(name="later")
    assert seen == [ids[:3:-1], ids[3:0:-1], ids[:1]]


async def test_paging_works_with_filters(client, make_run):
    for number in range(4):
        await make_run(name=f"{number}", branch="main" if number % 2 else "dev")
    first = await get(client, branch="main", limit=1)
    second = await get(client, branch="main", limit=1, cursor=first["next_cursor"])
    assert {run["name"] for run in first["items"] + second["items"]} == {"1", "3"}
    assert second["next_cursor"] is None


async def test_paging_goes_on_after_the_run_at_its_cursor_is_deleted(client, make_run):
    ids = await some_runs(make_run, 3)
    page = await get(client, limit=1)
    await client.delete(f"{RUNS}/{ids[2]}")
    assert [run["id"] for run in (await get(client, cursor=page["next_cursor"]))["items"]] == [ids[1], ids[0]]


async def test_a_limit_above_500_is_lowered_to_500(client, make_run, rows):
    await make_run()
    rows("INSERT INTO suite_runs (project_id, name) SELECT project_id, n FROM suite_runs, generate_series(1, 500) n")
    for query, expected in [({}, 100), ({"limit": 500}, 500), ({"limit": 501}, 500), ({"limit": 10**30}, 500)]:
        page = await get(client, **query)
        assert len(page["items"]) == expected, query
        assert page["next_cursor"], query


BAD_FILTERS = [
    ({"cursor": "nonsense"}, "cursor"),
    ({"cursor": "x" * 101}, "cursor"),
    ({"cursor": "!!!!"}, "cursor"),
    ({"cursor": "ü"}, "cursor"),
    ({"cursor": "\0"}, "cursor"),
    ({"cursor": "22bec193-1b61-40a1-9e34-af95adbe83ec"}, "cursor"),
    ({"limit": "0"}, "limit"),
    ({"limit": "-1"}, "limit"),
    ({"limit": "ten"}, "limit"),
    ({"limit": "1.5"}, "limit"),
    ({"status": "done"}, "status"),
    ({"name": "x" * 501}, "name"),
    ({"tag": "\0"}, "tag"),
    ({"since": "yesterday"}, "since"),
    ({"until": "9999-01-01"}, "until"),
]


async def test_errors_name_the_wrong_filters(client):
    for query, path in BAD_FILTERS:
        reply = await client.get(RUNS, params=query)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), query


async def test_a_run_has_counts_by_status_and_a_total_duration(client, make_run, make_case):
    run, other = await make_run(), await make_run()
    for status, duration in [("Passed", 5), ("Passed", None), ("Failed", 2**31 - 1), ("Skipped", 2**31 - 1)]:
        await make_case(run, status=status, duration_ms=duration)
    await make_case(run)
    await make_case(other, duration_ms=7)
    counts = {"total": 5, "passed": 2, "failed": 1, "skipped": 1, "pending": 1}
    shown = await get(client, f"{RUNS}/{run}")
    assert (shown["test_counts"], shown["total_duration_ms"]) == (counts, 5 + 2 * (2**31 - 1))
    listed = {item["id"]: item for item in (await get(client))["items"]}
    assert listed[run] == shown
    assert listed[other]["test_counts"] == {**EMPTY, "total": 1, "pending": 1}
    assert listed[other]["total_duration_ms"] == 7


# --- changing --------------------------------------------------------------------------------------------------


async def test_patch_changes_only_the_field_sent(client, make_run):
    run, other = await make_run(), await make_run(name="other")
    untouched = await get(client, f"{RUNS}/{other}")
    before = await get(client, f"{RUNS}/{run}")
    for field, value in {**DESCRIBED, "finished_at": "2026-01-24T13:00:00.000Z"}.items():
        status, body = await patch(client, run, **{field: value})
        assert status == 200
        assert {key for key in body if body[key] != before[key]} - {"updated_at"} == {field}
        assert body[field] == value and body["updated_at"] >= before["updated_at"]
        before = body
    assert before["updated_at"] > before["created_at"]
    assert await get(client, f"{RUNS}/{run}") == before
    assert await get(client, f"{RUNS}/{other}") == untouched


async def test_patch_ignores_unknown_and_fixed_fields(client, make_run):
    run = await make_run(**DESCRIBED)
    before = await get(client, f"{RUNS}/{run}")
    status, body = await patch(client, run, unknown=1, run_key="new", project="other", id="x")
    assert (status, {**body, "updated_at": 0}) == (200, {**before, "updated_at": 0})


NULLABLE = ["environment", "branch", "commit_sha", "build_url", "browser", "platform", "triggered_by", "finished_at"]


async def test_null_clears_an_optional_field(client, make_run):
    run = await make_run(**DESCRIBED)
    await patch(client, run, finished_at="2026-01-24T13:00:00Z")
    status, body = await patch(client, run, **dict.fromkeys(NULLABLE))
    assert (status, {body[field] for field in NULLABLE}) == (200, {None})
    assert body["name"] == DESCRIBED["name"] and body["metadata"] == DESCRIBED["metadata"]


async def test_null_on_a_required_field_is_refused(client, make_run):
    run = await make_run(**DESCRIBED)
    for field in ("name", "status", "tags", "metadata", "started_at"):
        status, body = await patch(client, run, **{field: None, "branch": "changed"})
        assert (status, body["errors"][0]["path"]) == (422, field)
        assert body["errors"][0]["message"].startswith("must "), field
    assert (await get(client, f"{RUNS}/{run}"))["branch"] == DESCRIBED["branch"]


async def test_times_keep_their_microseconds(client, make_run, rows):
    """Replies show milliseconds only. POST and PATCH must store the same precision."""
    run = await make_run(started_at="2026-01-24T12:00:00.123456Z")
    await patch(client, run, finished_at="2026-01-24T12:00:00.123456Z")
    (row,) = rows("SELECT started_at, finished_at FROM suite_runs")
    assert row["finished_at"] == row["started_at"]


async def test_metadata_is_merged_by_key(client, make_run):
    run = await make_run(metadata={"keep": {"x": 1}, "change": {"x": 1}, "remove": 1, "list": [1]})
    sent = {"change": {"y": None}, "remove": None, "absent": None, "list": [], "new": "n", "": 1}
    status, body = await patch(client, run, metadata=sent)
    assert status == 200
    assert body["metadata"] == {"keep": {"x": 1}, "change": {"y": None}, "list": [], "new": "n", "": 1}
    assert (await patch(client, run, metadata={}))[1]["metadata"] == body["metadata"]


async def test_concurrent_patches_of_metadata_are_all_merged(client, make_run):
    run = await make_run()
    await asyncio.gather(*(patch(client, run, metadata={f"shard {n}": n}) for n in range(12)))
    assert (await get(client, f"{RUNS}/{run}"))["metadata"] == {f"shard {n}": n for n in range(12)}


async def test_metadata_may_be_merged_up_to_the_maximum_size(client, make_run):
    run = await make_run(metadata={"a": "x" * (24 << 10)})
    status, body = await patch(client, run, metadata={"b": "x" * (24 << 10)})
    assert (status, sorted(body["metadata"])) == (200, ["a", "b"])


async def test_metadata_above_the_maximum_size_after_merging_are_refused(client, make_run):
    run = await make_run(metadata={"a": "x" * (40 << 10)})
    status, body = await patch(client, run, metadata={"b": "x" * (40 << 10)}, branch="new")
    assert (status, body.get("errors", [{}])[0].get("path")) == (422, "metadata")
    now = await get(client, f"{RUNS}/{run}")
    assert (list(now["metadata"]), now["branch"]) == (["a"], None)


async def test_a_run_with_large_metadata_can_be_changed(client, make_run):
    for metadata in [{"a": "x" * ((64 << 10) - 8)}, {"a": [1] * 32_000}]:
        run = await make_run(metadata=metadata)
        status, body = await patch(client, run, status="Passed")
        assert (status, body.get("status")) == (200, "Passed")
        assert body["metadata"] == metadata
        assert (await patch(client, run, metadata={"a": 1}))[1]["metadata"] == {"a": 1}


async def test_a_run_with_large_numbers_in_its_metadata_can_be_changed(client, make_run):
    run = await make_run(metadata={"a": [1e308] * 1000})
    status, body = await patch(client, run, status="Passed")
    assert (status, body.get("status")) == (200, "Passed")


# --- deleting --------------------------------------------------------------------------------------------------

TABLES = [
    "suite_runs",
    "test_case_results",
    "test_step_results",
    "test_artifacts",
    "test_checkpoints",
    "test_console_logs",
    "test_network_logs",
]


async def fill(client, case):
    """Create a row in each table below a test case."""
    await send_png(client, case, seed=1, step_number=1)
    for path, body in [
        ("steps", {"steps": [a_step(1)]}),
        ("checkpoints", {"checkpoints": [{"checkpoint_number": 1, "name": "c"}]}),
        ("console-logs", {"entries": [{"level": "info", "message": "m"}]}),
        ("network-logs", {"entries": [{"method": "GET", "url": "/"}]}),
    ]:
        assert (await client.post(f"{case}/{path}", json=body)).status == 201


async def test_delete_removes_all_rows_and_files_of_only_this_run(client, make_run, case_url, rows, storage):
    run, other = await make_run(), await make_run()
    for a_run in (run, run, other):
        await fill(client, await case_url(run=a_run))

    def counts():
        return {table: rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in TABLES}

    def files():
        return [path for path in storage.rglob("*.png") if path.is_file()]

    assert counts() == {**dict.fromkeys(TABLES, 3), "suite_runs": 2} and len(files()) == 3
    assert (await client.delete(f"{RUNS}/{run}")).status == 204
    assert counts() == dict.fromkeys(TABLES, 1) and len(files()) == 1
    again = await client.delete(f"{RUNS}/{run}")
    assert (again.status, (await again.json())["detail"]) == (404, "Suite run not found")
    assert (await client.delete(f"{RUNS}/{other}")).status == 204
    assert counts() == dict.fromkeys(TABLES, 0)
    # The content cache and the list of files to be unlinked are empty, too.
    assert [path.name for path in storage.rglob("*") if path.is_file()] == [MARKER]
    assert rows("SELECT FROM removed_files WHERE unlinked_at IS NULL") == []


@pytest.mark.parametrize("wait", [0, 0.02, 0.05])
async def test_delete_during_uploads_leaves_nothing(client, make_run, case_url, rows, stored_files, wait):
    run = await make_run()
    cases = [await case_url(run=run) for _ in range(3)]

    async def upload(case, seed):
        form = FormData()
        form.add_field("file", png(64, 64, seed), filename=f"{seed}.png")
        form.add_field("artifact_type", "screenshot")
        return (await client.post(f"{case}/artifacts", data=form)).status

    async def add_case(number):
        return (await client.post(f"{RUNS}/{run}/test-cases", json={"name": str(number)})).status

    async def delete():
        await asyncio.sleep(wait)
        return (await client.delete(f"{RUNS}/{run}")).status

    work = [upload(cases[seed % 3], seed) for seed in range(15)] + [add_case(number) for number in range(5)]
    statuses = await asyncio.gather(delete(), *work)
    assert statuses[0] == 204
    assert set(statuses[1:]) <= {201, 404}
    for table in [*TABLES, "removed_files WHERE unlinked_at IS NULL"]:
        assert rows(f"SELECT FROM {table}") == [], table
    assert stored_files() == []


# --- wrong values ----------------------------------------------------------------------------------------------

BAD_RUNS = [
    ({}, "name", "is required"),
    ({"name": None}, "name", "must be a string, not null"),
    ({"name": [5]}, "name", "must be a string, not an array"),
    ({"name": ""}, "name", "must not be empty"),
    ({"run_key": ""}, "run_key", "must not be empty"),
    ({"run_key": "x" * 501}, "run_key", "must be at most 500 characters long"),
    ({"run_key": "\udc00"}, "run_key", "must not contain NUL characters or lone surrogates"),
    ({"project": "a\0b"}, "project", "must not contain NUL characters or lone surrogates"),
    ({"project": "x" * 101}, "project", "must be at most 100 characters long"),
    ({"status": "aborted"}, "status", "must be one of: Passed, Failed, Skipped, Pending, Running"),
    ({"commit_sha": "x" * 65}, "commit_sha", "must be at most 64 characters long"),
    ({"commit_sha": "a\0b"}, "commit_sha", "must not contain NUL characters or lone surrogates"),
    ({"triggered_by": ["x"]}, "triggered_by", "must be a string or null, not an array"),
    ({"tags": "x"}, "tags", "must be an array or null, not a string"),
    ({"tags": ["a", None]}, "tags[1]", "must be a string, not null"),
    ({"tags": ["a", ""]}, "tags[1]", "must not be empty"),
    ({"tags": ["x"] * 101}, "tags", "must have at most 100 entries"),
    ({"metadata": []}, "metadata", "must be an object"),
    ({"metadata": "{}"}, "metadata", "must be an object"),
    ({"metadata": {"a": "x" * (64 << 10)}}, "metadata", "must be at most 64 KiB as JSON"),
    ({"metadata": {"a": 2**64}}, "metadata", "must hold numbers of at most 64 bits"),
    ({"started_at": "now"}, "started_at", "must be an ISO 8601 time"),
    ({"started_at": "9999-01-01T00:00:00Z"}, "started_at", "must lie in the years 1970 to 9998"),
    ([], "", "must be an object, not an array"),
    ("x", "", "must be an object, not a string"),
]


async def test_errors_name_the_wrong_values(client, rows):
    for body, path, message in BAD_RUNS:
        if isinstance(body, dict) and path != "name":
            body = {"name": "n", **body}
        reply = await client.post(RUNS, json=body)
        problem = (await reply.json())["errors"][0]
        assert (reply.status, problem["path"]) == (422, path), body
        assert problem["message"].startswith(message), problem
    assert rows("SELECT FROM suite_runs") == []


async def test_a_patch_refuses_the_same_values(client, make_run):
    run = await make_run()
    before = await get(client, f"{RUNS}/{run}")
    for body, path, _ in BAD_RUNS:
        if body == {} or path in ("run_key", "project"):  # an empty patch is valid; these fields are ignored
            continue
        reply = await client.patch(f"{RUNS}/{run}", json=body)
        error = await reply.json()
        assert (reply.status, error.get("errors", [{}])[0].get("path")) == (422, path), body
    assert await get(client, f"{RUNS}/{run}") == before


async def test_metadata_may_be_32_levels_deep(client):
    def nested(levels):
        return {"a": nested(levels - 1) if levels > 1 else 1}

    for levels, status in [(32, 201), (33, 422), (60, 422)]:
        reply = await client.post(RUNS, json={"name": "x", "metadata": nested(levels)})
        assert reply.status == status, levels
        assert status == 201 or (await reply.json())["errors"][0]["path"] == "metadata"


async def test_an_unknown_run_is_a_404_before_the_body_is_checked(client):
    for unknown in (uuid.uuid4(), "nonsense", "%00", uuid.uuid4().hex):
        for method in ("GET", "PATCH", "DELETE"):
            reply = await client.request(method, f"{RUNS}/{unknown}", data=b"{")
            assert (reply.status, (await reply.json())["detail"]) == (404, "Suite run not found")


async def test_a_body_that_is_not_json_is_malformed(client, make_run):
    run = await make_run()
    for body in (b"", b"{", b"NaN", b"\xff", b'{"name": "x"} x', b"{'name': 'x'}", b'{"name": "\x01"}'):
        for method, path in [("POST", RUNS), ("PATCH", f"{RUNS}/{run}")]:
            reply = await client.request(method, path, data=body)
            assert (reply.status, (await reply.json())["code"]) == (400, "malformed_body"), body


async def test_a_run_key_used_during_its_deletion_gives_a_run(client):
    async def shard():
        reply = await client.post(RUNS, json={"name": "x", "run_key": "k"})
        return reply.status, (await reply.json()).get("id")

    async def remove(run):
        return (await client.delete(f"{RUNS}/{run}")).status

    _, run = await shard()
    for _ in range(25):
        replies = await asyncio.gather(shard(), remove(run), shard(), remove(run), shard())
        assert {replies[1], replies[3]} <= {204, 404}
        shards = [replies[0], replies[2], replies[4]]
        assert {status for status, _ in shards} <= {200, 201}, shards
        _, run = await shard()


async def test_a_delete_unlinks_some_of_its_files_and_the_sweeper_the_rest(
    client, make_run, make_case, stored_files, rows, monkeypatch
):
    monkeypatch.setattr("server.reports.suite_runs.MOST_AT_ONCE", 3)
    monkeypatch.setattr("server.storage.removal.MOST_AT_ONCE", 3)
    run, others = await make_run(), await make_case()
    case = await make_case(run=run)
    for number in range(8):
        for owner in (case, others):
            reply = await client.post(
                f"/api/v1/reports/test-case-results/{owner}/artifacts",
                data=single(png(seed=number), step_number=number),
                headers={"Content-Type": CONTENT_TYPE},
            )
            assert reply.status == 201
    # A file of another deletion, which this DELETE must leave to the sweeper.
    rows("INSERT INTO removed_files (storage_path, project_id, checksum) VALUES ('x/y', gen_random_uuid(), '')")
    services = client.app[SERVICES]
    async with services.pool.transaction() as connection:
        call = Actor("token", None, "x", None, None)
        own = await suite_runs.delete(connection, uuid.UUID(run), None, call)
    assert len(own) == 3
    await services.removals.of_delete(services.pool, own[:2])  # fewer than MOST_AT_ONCE: does not wake the sweeper
    assert len(rows("SELECT FROM removed_files WHERE unlinked_at IS NULL")) == 7
    await services.removals.of_delete(services.pool, own)
    async with asyncio.timeout(30):  # with MOST_AT_ONCE files, it has woken the sweeper
        while rows("SELECT FROM removed_files WHERE unlinked_at IS NULL"):
            await asyncio.sleep(0.02)
    assert len(stored_files()) == 8
