"""Test case results: created singly and in bulk, listed, changed, and shown as a report."""

import asyncio
import uuid
from uuid import UUID

import psycopg

from server.ids import bucket_of
from tests.api.test_steps import a_step, send_png

BASE = "/api/v1/reports"
SENT = {
    "name": "login works – äöü 🙂",
    "test_id": "tests/login.py::test_login[chrome]",
    "status": "Failed",
    "duration_ms": 2**31 - 1,
    "error_message": "expected 1, got 2",
    "error_type": "AssertionError",
    "stack_trace": "line 1\nline 2",
    "attempt": 3,
    "browser": "Chromium 140",
    "tags": ["slow", "login"],
    "metadata": {"a": {"b": [1, None]}},
    "started_at": "2026-01-24T12:00:00.000Z",
    "completed_at": "2026-01-24T12:00:01.250Z",
}
NULLABLE = [
    "duration_ms",
    "error_message",
    "error_type",
    "stack_trace",
    "browser",
    "started_at",
    "completed_at",
]


async def get(client, url, **query):
    reply = await client.get(url, params=query)
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def names(client, url, **query):
    return [case["name"] for case in (await get(client, url, **query))["items"]]


# --- creating --------------------------------------------------------------------------------------------------


async def test_every_field_is_stored_and_returned(client, make_run):
    run = await make_run()
    sent = {**SENT, "id": "x", "suite_run_id": 5, "unknown": {}, "completed_at": "2026-01-24T13:00:01.2505+01:00"}
    reply = await client.post(f"{BASE}/suite-runs/{run}/test-cases", json=sent)
    case = await reply.json()
    assert reply.status == 201
    assert {key: case[key] for key in SENT} == SENT
    assert case["suite_run_id"] == run and case["created_at"] == case["updated_at"]
    assert await get(client, f"{BASE}/test-case-results/{case['id']}") == case
    assert (await get(client, f"{BASE}/suite-runs/{run}/test-cases"))["items"] == [case]


async def test_only_a_name_is_required(client, make_run):
    run = await make_run()
    for filler in ({}, dict.fromkeys(SENT)):
        body = {**filler, "name": "x"}
        case = await (await client.post(f"{BASE}/suite-runs/{run}/test-cases", json=body)).json()
        assert {case[field] for field in NULLABLE} == {None}
        assert (case["test_id"], case["status"], case["attempt"]) == ("x", "Pending", 1)
        assert (case["tags"], case["metadata"]) == ([], {})


async def test_ids_contain_the_bucket_of_their_run(client, make_run, case_url):
    run = await make_run(run_key="k")
    case = await case_url(run=run)
    assert bucket_of(UUID(case.rpartition("/")[2])) == bucket_of(UUID(run))
    await client.post(f"{case}/steps", json={"steps": [a_step()]})
    (step,) = (await get(client, f"{case}/steps"))["steps"]
    artifact = await send_png(client, case)
    assert bucket_of(UUID(step["id"])) == bucket_of(UUID(artifact)) == bucket_of(UUID(run))


async def test_the_project_of_a_test_case_is_that_of_its_run(make_run, make_case, make_token, rows):
    make_token(project="named")
    await make_case(await make_run(project="named"))
    query = "SELECT p.name FROM test_case_results c JOIN projects p ON p.id = c.project_id"
    assert rows(query) == [{"name": "named"}]


async def test_bulk_keeps_the_order_sent(client, make_run):
    run = await make_run()
    cases = [{"name": f"case {number}", "tags": [str(number)]} for number in (3, 1, 2)] + [SENT]
    reply = await client.post(f"{BASE}/suite-runs/{run}/test-cases/bulk", json={"test_cases": cases})
    body = await reply.json()
    assert (reply.status, body["created"]) == (201, 4)
    assert [case["name"] for case in body["test_cases"]] == [case["name"] for case in cases]
    assert body["test_cases"][0]["tags"] == ["3"] and body["test_cases"][1]["test_id"] == "case 1"
    assert {key: body["test_cases"][3][key] for key in SENT} == SENT
    assert (await get(client, f"{BASE}/suite-runs/{run}/test-cases"))["items"] == body["test_cases"]


async def test_bulk_is_all_or_nothing(only_requests, client, make_run, rows):
    url = f"{BASE}/suite-runs/{await make_run()}/test-cases/bulk"
    cases = [{"name": "good"}, {"name": "good"}, {"name": "bad", "status": "Broken"}]
    reply = await client.post(url, json={"test_cases": cases})
    assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "test_cases[2].status")
    # The insert of a row in the middle fails, after earlier rows were inserted.
    rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.name = 'third' THEN RAISE invalid_text_representation; END IF; RETURN NEW; END $$"
    )
    rows("CREATE TRIGGER refuse AFTER INSERT ON test_case_results FOR EACH ROW EXECUTE FUNCTION refuse()")
    cases = [{"name": name} for name in ("first", "second", "third", "fourth")]
    assert (await client.post(url, json={"test_cases": cases})).status == 422
    assert rows("SELECT FROM test_case_results") == []
    empty = await client.post(url, json={"test_cases": []})
    assert (empty.status, await empty.json()) == (201, {"created": 0, "test_cases": []})


async def test_a_run_that_is_deleted_before_the_insert_is_a_404(client, make_run, rows, dsn):
    for path, body in [("", {"name": "x"}), ("/bulk", {"test_cases": [{"name": "x"}]})]:
        run = await make_run()
        with psycopg.connect(dsn) as other:
            other.execute("LOCK TABLE test_case_results IN SHARE MODE")  # blocks the INSERT, not the lookup of the run
            waiting = asyncio.create_task(client.post(f"{BASE}/suite-runs/{run}/test-cases{path}", json=body))
            while not rows("SELECT FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
            other.execute("DELETE FROM suite_runs WHERE id = %s", [run])
            other.commit()
            reply = await waiting
        assert (reply.status, (await reply.json()).get("detail")) == (404, "Suite run not found"), path


async def test_a_bulk_has_at_most_10_000_entries(client, make_run, rows):
    url = f"{BASE}/suite-runs/{await make_run()}/test-cases/bulk"
    reply = await client.post(url, json={"test_cases": [{"name": "x"}] * 10_001})
    assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, "test_cases")
    assert rows("SELECT FROM test_case_results") == []


# --- listing ---------------------------------------------------------------------------------------------------


async def make_many(client, run, cases):
    reply = await client.post(f"{BASE}/suite-runs/{run}/test-cases/bulk", json={"test_cases": cases})
    assert reply.status == 201, await reply.text()


async def test_the_list_is_paged(client, make_run):
    run, other = await make_run(), await make_run()
    url = f"{BASE}/suite-runs/{run}/test-cases"
    await make_many(client, run, [{"name": str(number)} for number in range(5)])
    await make_many(client, other, [{"name": "other"}])
    whole = await get(client, url)
    assert (whole["total"], whole["page"], whole["per_page"]) == (5, 1, 100)
    assert [case["name"] for case in whole["items"]] == ["0", "1", "2", "3", "4"]
    second = await get(client, url, page=2, per_page=2)
    assert (second["total"], second["page"], second["per_page"]) == (5, 2, 2)
    assert [case["name"] for case in second["items"]] == ["2", "3"]
    assert await names(client, url, page=3, per_page=2) == ["4"]
    for query in ({"page": 4, "per_page": 2}, {"page": 2**31 - 1, "per_page": 500}):
        beyond = await get(client, url, **query)
        assert (beyond["total"], beyond["items"]) == (5, [])


async def test_per_page_above_500_is_lowered_to_500(client, make_run):
    run = await make_run()
    await make_many(client, run, [{"name": "x"}] * 501)
    for asked in (501, 10**30):
        page = await get(client, f"{BASE}/suite-runs/{run}/test-cases", per_page=asked)
        assert (page["per_page"], len(page["items"]), page["total"]) == (500, 500, 501)


async def test_the_list_can_be_filtered_by_status_and_text(client, make_run):
    run = await make_run()
    url = f"{BASE}/suite-runs/{run}/test-cases"
    cases = [("Login Works", "Passed"), ("100% sure", "Passed"), ("snake_case", "Failed"), ("back\\slash", "Pending")]
    await make_many(client, run, [{"name": name, "status": status} for name, status in cases])
    for query, expected in [
        ({"status": "Passed"}, [0, 1]),
        ({"status": "Skipped"}, []),
        ({"q": "LOGIN"}, [0]),
        ({"q": "n w"}, [0]),
        ({"q": "%"}, [1]),
        ({"q": "_"}, [2]),
        ({"q": "e_C"}, [2]),
        ({"q": "\\"}, [3]),
        ({"q": "."}, []),
        ({"q": ""}, [0, 1, 2, 3]),
        ({"q": "s", "status": "Failed"}, [2]),
    ]:
        page = await get(client, url, **query)
        assert [case["name"] for case in page["items"]] == [cases[number][0] for number in expected], query
        assert page["total"] == len(expected), query


async def test_errors_name_the_wrong_filters(client, make_run):
    run = await make_run()
    for query, path in [
        ({"page": "0"}, "page"),
        ({"page": "-1"}, "page"),
        ({"page": str(2**31)}, "page"),
        ({"page": "x"}, "page"),
        ({"per_page": "0"}, "per_page"),
        ({"per_page": "2.5"}, "per_page"),
        ({"status": "Running"}, "status"),
        ({"q": "x" * 501}, "q"),
        ({"q": "\0"}, "q"),
    ]:
        reply = await client.get(f"{BASE}/suite-runs/{run}/test-cases", params=query)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), query


# --- changing --------------------------------------------------------------------------------------------------


async def test_patch_changes_only_the_field_sent(client, make_run, case_url):
    run = await make_run()
    case, other = await case_url(run=run), await case_url(run=run)
    untouched, before = await get(client, other), await get(client, case)
    for field, value in SENT.items():
        reply = await client.patch(case, json={field: value, "unknown": 1, "suite_run_id": "x"})
        body = await reply.json()
        assert (reply.status, body[field]) == (200, value)
        assert {key for key in body if body[key] != before[key]} - {"updated_at"} == {field}
        before = body
    assert await get(client, case) == before and before["updated_at"] > before["created_at"]
    assert await get(client, other) == untouched


async def test_null_clears_an_optional_field(client, case_url):
    case = await case_url(**SENT)
    body = await (await client.patch(case, json=dict.fromkeys(NULLABLE))).json()
    assert {body[field] for field in NULLABLE} == {None}
    assert {body[field] == SENT[field] for field in SENT.keys() - set(NULLABLE)} == {True}


async def test_null_on_a_required_field_is_refused(client, case_url):
    case = await case_url(**SENT)
    for field in ("name", "test_id", "status", "attempt", "tags", "metadata"):
        reply = await client.patch(case, json={field: None, "browser": "changed"})
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, field)
    assert (await get(client, case))["browser"] == SENT["browser"]


async def test_metadata_is_merged_by_key(client, case_url):
    case = await case_url(metadata={"keep": 1, "change": {"x": 1}, "remove": 1})
    sent = {"change": {"y": 2}, "remove": None, "absent": None}
    body = await (await client.patch(case, json={"metadata": sent})).json()
    assert body["metadata"] == {"keep": 1, "change": {"y": 2}}


async def test_metadata_above_the_maximum_size_after_merging_are_refused(client, case_url):
    case = await case_url(metadata={"a": "x" * (40 << 10)})
    reply = await client.patch(case, json={"metadata": {"b": "x" * (40 << 10)}})
    assert reply.status == 422 and (await reply.json())["errors"][0]["path"] == "metadata"


# --- the report ------------------------------------------------------------------------------------------------


async def test_the_report_has_steps_artifacts_checkpoints_and_log_counts(client, case_url):
    case = await case_url()
    artifact = await send_png(client, case, step_number=2)
    await client.post(f"{case}/steps", json={"steps": [a_step(2), a_step(1)]})
    await client.post(f"{case}/checkpoints", json={"checkpoints": [{"checkpoint_number": 1, "name": "c"}]})
    await client.post(f"{case}/console-logs", json={"entries": [{"level": "info", "message": "m"}] * 3})
    await client.post(f"{case}/network-logs", json={"entries": [{"method": "GET", "url": "/"}] * 2})
    report = await get(client, f"{case}/report")
    assert report["test_case_result"] == await get(client, case)
    assert report["steps"] == (await get(client, f"{case}/steps"))["steps"]
    assert [step["step_number"] for step in report["steps"]] == [1, 2]
    assert report["steps"][1]["screenshot"]["id"] == artifact
    assert report["artifacts"] == (await get(client, f"{case}/artifacts"))["items"] != []
    assert report["checkpoints"] == (await get(client, f"{case}/checkpoints"))["items"] != []
    assert (report["console_log_count"], report["network_log_count"], report["truncated"]) == (3, 2, False)
    assert len(report) == 7


async def test_the_report_of_an_empty_test_case_has_empty_lists(client, case_url):
    case = await case_url()
    report = await get(client, f"{case}/report")
    assert report.pop("test_case_result")["id"] in case
    assert report == {
        "steps": [],
        "artifacts": [],
        "checkpoints": [],
        "console_log_count": 0,
        "network_log_count": 0,
        "truncated": False,
    }


async def test_a_report_shows_the_first_2_000_of_each_kind_and_is_marked_as_truncated(client, case_url, rows):
    steps, artifacts, checkpoints = await case_url(), await case_url(), await case_url()
    await client.post(f"{steps}/steps", json={"steps": [a_step(number) for number in range(2_000)]})
    whole = await get(client, f"{steps}/report")
    assert (len(whole["steps"]), whole["truncated"]) == (2_000, False)
    await client.post(f"{steps}/steps/bulk", json={"steps": [a_step(2_000)]})
    cut = await get(client, f"{steps}/report")
    assert (cut["steps"], cut["truncated"]) == (whole["steps"], True)

    rows(
        "INSERT INTO test_artifacts (test_case_result_id, artifact_type, file_name, file_size, mime_type, checksum,"
        " storage_path, dedupe_key, step_number) SELECT %s, 'other', 'x', 1, 'text/plain', 'x', n, n::text::bytea, n"
        " FROM generate_series(1, 2001) n",
        artifacts.rpartition("/")[2],
    )
    cut = await get(client, f"{artifacts}/report")
    assert [item["step_number"] for item in cut["artifacts"]] == list(range(1, 2_001)) and cut["truncated"]

    entries = [{"checkpoint_number": number, "name": "c"} for number in range(2_001)]
    await client.post(f"{checkpoints}/checkpoints", json={"checkpoints": entries})
    cut = await get(client, f"{checkpoints}/report")
    assert [item["checkpoint_number"] for item in cut["checkpoints"]] == list(range(2_000)) and cut["truncated"]


async def test_a_test_case_of_another_project_is_a_404(client, start, make_token, case_url, rows):
    case = await case_url()
    before = rows("SELECT * FROM test_case_results")
    theirs = await start(token=make_token(project="theirs"))
    for method, path in [("GET", ""), ("PATCH", ""), ("GET", "/report")]:
        reply = await theirs.request(method, f"{case}{path}", json={"name": "changed"})
        assert (reply.status, (await reply.json())["detail"]) == (404, "Test case result not found")
    assert rows("SELECT * FROM test_case_results") == before


# --- wrong values ----------------------------------------------------------------------------------------------

BAD_CASES = [
    ({"name": None}, "name", "must be a string, not null"),
    ({"name": ""}, "name", "must not be empty"),
    ({"test_id": ""}, "test_id", "must not be empty"),
    ({"status": "Running"}, "status", "must be one of: Passed, Failed, Skipped, Pending"),
    ({"duration_ms": 2**31}, "duration_ms", "must be at most 2147483647"),
    ({"duration_ms": 10**30}, "duration_ms", "must be"),
    ({"duration_ms": 2.0**31}, "duration_ms", "must be at most 2147483647"),
    ({"duration_ms": 1e300}, "duration_ms", "must be"),
    ({"duration_ms": "1"}, "duration_ms", "must be an integer or null, not a string"),
    ({"duration_ms": True}, "duration_ms", "must be an integer or null, not a boolean"),
    ({"attempt": 0}, "attempt", "must be at least 1"),
    ({"attempt": 2**31}, "attempt", "must be at most 2147483647"),
    ({"attempt": 1.5}, "attempt", "must be an integer"),
    ({"error_message": [5]}, "error_message", "must be a string or null, not an array"),
    ({"tags": {}}, "tags", "must be an array"),
    ({"tags": [None]}, "tags[0]", "must be a string, not null"),
    ({"tags": ["x"] * 101}, "tags", "must have at most 100 entries"),
    ({"metadata": [1]}, "metadata", "must be an object"),
    ({"metadata": {"x": "y" * (64 << 10)}}, "metadata", "must be at most 64 KiB as JSON"),
    ({"started_at": "24.01.2026"}, "started_at", "must be an ISO 8601 time"),
    ({"completed_at": [1]}, "completed_at", "must be an ISO 8601 time"),
    ({"completed_at": "1969-12-31T23:59:59Z"}, "completed_at", "must lie in the years 1970 to 9998"),
]


async def test_errors_name_the_wrong_values_in_post_bulk_and_patch(client, make_run, case_url, rows):
    run = await make_run()
    case = await case_url(run=run)
    before = await get(client, case)
    for wrong, path, message in BAD_CASES:
        for method, url, body, prefix in [
            ("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "n", **wrong}, ""),
            (
                "POST",
                f"{BASE}/suite-runs/{run}/test-cases/bulk",
                {"test_cases": [{"name": "n"}, {"name": "n", **wrong}]},
                "test_cases[1].",
            ),
            ("PATCH", case, wrong, ""),
        ]:
            reply = await client.request(method, url, json=body)
            problem = (await reply.json())["errors"][0]
            assert (reply.status, problem["path"]) == (422, prefix + path), (method, wrong)
            assert problem["message"].replace(" | null", "").startswith(message.replace(" | null", "")), problem
    assert await get(client, case) == before
    assert len(rows("SELECT FROM test_case_results")) == 1


async def test_bodies_of_the_wrong_shape_are_refused(client, make_run, case_url):
    run = await make_run()
    single, case = f"{BASE}/suite-runs/{run}/test-cases", await case_url(run=run)
    for method, url, body, path in [
        ("POST", single, {}, "name"),
        ("POST", single, [], ""),
        ("POST", f"{single}/bulk", {}, "test_cases"),
        ("POST", f"{single}/bulk", {"test_cases": None}, "test_cases"),
        ("POST", f"{single}/bulk", {"test_cases": [[]]}, "test_cases[0]"),
        ("POST", f"{single}/bulk", [{"name": "x"}], ""),
        ("PATCH", case, [], ""),
        ("PATCH", case, "x", ""),
    ]:
        reply = await client.request(method, url, json=body)
        assert (reply.status, (await reply.json())["errors"][0]["path"]) == (422, path), (url, body)
        reply = await client.request(method, url, data=b"{")
        assert (reply.status, (await reply.json())["code"]) == (400, "malformed_body")


async def test_an_unknown_run_or_test_case_is_a_404_before_the_body_is_checked(client):
    for unknown in (uuid.uuid4(), "nonsense", "%00"):
        for method, path in [
            ("GET", f"suite-runs/{unknown}/test-cases?page=0"),
            ("POST", f"suite-runs/{unknown}/test-cases"),
            ("POST", f"suite-runs/{unknown}/test-cases/bulk"),
            ("GET", f"test-case-results/{unknown}"),
            ("PATCH", f"test-case-results/{unknown}"),
            ("GET", f"test-case-results/{unknown}/report"),
        ]:
            reply = await client.request(method, f"{BASE}/{path}", data=b"{")
            noun = "Suite run" if path.startswith("suite") else "Test case result"
            assert (reply.status, (await reply.json())["detail"]) == (404, f"{noun} not found"), path
    empty = await client.post(f"{BASE}/suite-runs/{uuid.uuid4()}/test-cases/bulk", json={"test_cases": []})
    assert empty.status == 404
