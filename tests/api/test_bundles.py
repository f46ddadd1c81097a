"""POST /suite-runs/{id}/bundle: whole results with one request, all or none of them, and each file on its own."""

import asyncio
import json
import uuid

import pytest
from asyncpg import Connection

from server.database.queries import SQL
from server.reports import bundles
from server.services import SERVICES
from tests.api.test_artifacts import on_disk, shot
from tests.api.test_known import content, known
from tests.forms import a_body, a_field, a_file, post, single

RUNS = "/api/v1/reports/suite-runs"


def a_test(name="pays", **more):
    return {"client_ref": str(uuid.uuid4()), "test": {"name": name, "status": "Passed"}, **more}


def a_step(number, **fields):
    return {"step_number": number, "status": "Passed", **fields}


def sent_file(index, **fields):
    return {"file_index": index, "artifact_type": "screenshot", **fields}


@pytest.fixture
async def send(client, make_run):
    """await send(*tests, files=…, run=…, **headers): status and reply."""
    default = await make_run()

    async def sent(*tests, files=(), run=None, client=client, **headers):
        parts = [a_file(data, f"{n}.png", name="files") for n, data in enumerate(files)]
        body = a_body(a_field("bundle", json.dumps({"tests": tests})), *parts)
        return await post(client, f"{RUNS}/{run or default}/bundle", body, **headers)

    sent.run = default
    return sent


async def of_case(client, case_id, what):
    reply = await client.get(f"/api/v1/reports/test-case-results/{case_id}/{what}")
    body = await reply.json()
    return body.get("items", body.get("steps", body))


def counts(rows):
    tables = ["case_results", "step_results", "artifacts", "checkpoints", "console_logs", "network_logs"]
    return [rows(f"SELECT count(*) AS n FROM test_{table}")[0]["n"] for table in tables]


FULL = {
    "steps": [a_step(2, parent_step_number=1), a_step(1, screenshot_path="shots/0.png"), a_step(1, iteration_number=2)],
    "checkpoints": [{"checkpoint_number": 1, "name": "total", "status": "Failed", "step_number": 1}],
    "console_logs": [{"level": "error", "message": f"line {n}"} for n in range(3)],
    "network_logs": [{"method": "GET", "url": "https://x.example/", "status_code": 500}],
}


# --- what is stored ----------------------------------------------------------------------------------------------


async def test_a_bundle_stores_results_with_all_that_belongs_to_them(client, send, storage):
    tests = [a_test("one", **FULL, artifacts=[sent_file(1, step_number=2), sent_file(0)]), a_test("two")]
    status, body = await send(*tests, files=[shot(1), shot(2)])
    assert (status, body["failed"]) == (201, [])
    assert body["message"] == "Successfully stored 2 tests with 2 artifacts"
    one, two = body["tests"]
    assert [each["client_ref"] for each in body["tests"]] == [each["client_ref"] for each in tests]
    assert one["created"] and one["complete"] and one["failed"] == [] and one["id"] < two["id"]
    assert (two["step_ids"], two["artifacts"], two["complete"]) == ([], [], True)
    case = await (await client.get(f"/api/v1/reports/test-case-results/{one['id']}")).json()
    assert (case["name"], case["suite_run_id"], case["status"]) == ("one", send.run, "Passed")

    listed = await of_case(client, one["id"], "steps?shape=object")
    by_id = {each["id"]: each for each in listed}
    shown = [(by_id[each]["iteration_number"], by_id[each]["step_number"]) for each in one["step_ids"]]
    assert shown == [(1, 2), (1, 1), (2, 1)]
    assert by_id[one["step_ids"][0]]["parent_step_number"] == 1 and by_id[one["step_ids"][0]]["step_type"] == "other"
    first, second = one["artifacts"]
    assert (first["file_index"], second["file_index"]) == (0, 1)
    assert [on_disk(storage, each).read_bytes() for each in (first, second)] == [shot(1), shot(2)]
    # The one by the name in screenshot_path, the other one by its step number.
    assert by_id[one["step_ids"][1]]["screenshot_artifact_id"] == first["id"]
    assert by_id[one["step_ids"][0]]["screenshot_artifact_id"] == second["id"]
    assert (first["step_result_id"], second["step_result_id"]) == (one["step_ids"][1], one["step_ids"][0])
    assert [each["message"] for each in await of_case(client, one["id"], "console-logs")] == [
        "line 0",
        "line 1",
        "line 2",
    ]
    assert [each["name"] for each in await of_case(client, one["id"], "checkpoints")] == ["total"]
    assert [each["status_code"] for each in await of_case(client, one["id"], "network-logs")] == [500]
    for what in ("steps?shape=object", "checkpoints", "console-logs", "network-logs"):
        assert await of_case(client, two["id"], what) == []


async def test_a_bundle_equals_the_single_calls_field_by_field(client, send, make_case):
    """Except for ids and times of the server."""
    ours = {"id", "test_case_result_id", "step_result_id", "screenshot_artifact_id", "storage_path", "download_url"}
    ours |= {"created_at", "updated_at", "uploaded_at", "screenshot", "artifacts"}
    odd = a_step(3, input_value="hunter2", element_type="password", duration_ms=1.5, error_message="a\0b")
    steps = [*FULL["steps"], odd]
    logs = {
        "console_logs": [{"level": "SEVERE", "message": "GET https://u:secret@x/?token=abc"}],
        "network_logs": [{"method": "GET", "url": "https://u:pw@x/", "request_headers": {"Cookie": "a=b"}}],
    }
    sent = a_test("same", **{**FULL, **logs, "steps": steps}, artifacts=[sent_file(0, step_number=1)])
    status, body = await send(sent, files=[shot()])
    assert status == 201, body
    assert {each["path"] for each in body["warnings"]} == {
        "tests[0].steps[3].duration_ms",
        "tests[0].steps[3].error_message",
        "tests[0].console_logs[0].level",
    }
    bundled, case = body["tests"][0]["id"], await make_case(name="same", status="Passed")
    url = f"/api/v1/reports/test-case-results/{case}"
    await client.post(f"{url}/steps/bulk", json={"steps": steps})
    await client.post(f"{url}/checkpoints", json={"checkpoints": FULL["checkpoints"]})
    for kind in ("console", "network"):
        await client.post(f"{url}/{kind}-logs", json={"entries": logs[f"{kind}_logs"]})
    await post(client, f"{url}/artifacts", single(shot(), "0.png", step_number=1))
    for what in ("steps?shape=object", "checkpoints", "console-logs", "network-logs", "artifacts?shape=object"):
        one, two = [await of_case(client, some, what) for some in (bundled, case)]
        one, two = ([{name: each[name] for name in each.keys() - ours} for each in some] for some in (one, two))
        assert one == two and one, what
    assert "secret" not in str(await of_case(client, bundled, "console-logs"))
    assert "hunter2" not in str(await of_case(client, bundled, "steps?shape=object"))


@pytest.mark.parametrize(
    ("test", "steps"),
    [
        ({"error_message": "no button 17", "error_type": "E"}, []),
        ({}, [a_step(1, status="Failed", error_message="step 5 failed")]),
        ({"error_message": "own"}, [a_step(1, status="Failed", error_message="step 5 failed")]),
        ({}, [a_step(2, status="Failed", error_message="later"), a_step(1, status="Failed", error_message="first")]),
        ({"stack_trace": 'File "app/a.py", line 3, in pay\nE: x'}, [a_step(1, status="Failed")]),
        ({"status": "Passed", "error_message": "x"}, []),
        ({}, []),
    ],
)
async def test_errors_are_grouped_as_by_the_single_calls(client, send, make_case, rows, test, steps):
    fields = {"name": "x", "status": "Failed", **test}
    status, body = await send(a_test() | {"test": fields, "steps": steps})
    assert status == 201, body
    case = await make_case(**fields)
    await client.post(f"/api/v1/reports/test-case-results/{case}/steps/bulk", json={"steps": steps})
    both = rows("SELECT error_fingerprint AS f FROM test_case_results WHERE status IN ('Failed', 'Passed')")
    assert both[0] == both[1]
    assert len(rows("SELECT FROM errors")) == (both[0]["f"] is not None)


async def test_json_without_files_may_be_sent_alone(client, send, stored_files):
    url = f"{RUNS}/{send.run}/bundle"
    reply = await client.post(url, json={"tests": [a_test(**FULL)]})
    body = await reply.json()
    assert (reply.status, body["tests"][0]["created"]) == (201, True)
    _, made = await send(a_test(artifacts=[sent_file(0)]), files=[shot()])
    reply = await client.post(url, json={"tests": [a_test(artifacts=[known(shot()), known(shot(7))])]})
    (test,) = (await reply.json())["tests"]
    assert (reply.status, test["complete"], len(stored_files())) == (207, False, 2)
    assert (test["artifacts"][0]["known_index"], test["failed"][0]["known_index"]) == (0, 1)
    assert test["failed"][0]["code"] == "content_missing"
    assert made["tests"][0]["artifacts"][0]["known_index"] is None


async def test_files_stand_in_the_order_in_which_the_test_names_them(client, send):
    await send(a_test(artifacts=[sent_file(0)]), files=[shot()])
    names = [known(shot(), file_name="b.png"), sent_file(1), known(shot(), file_name="a.png"), sent_file(0)]
    status, body = await send(a_test(artifacts=names), files=[shot(2), shot(3)])
    (test,) = body["tests"]
    listed = await of_case(client, test["id"], "artifacts")
    assert [file["file_name"] for file in listed] == ["b.png", "1.png", "a.png", "0.png"]
    assert (status, [(file["file_index"], file["known_index"]) for file in test["artifacts"]]) == (
        201,
        [(0, None), (1, None), (None, 0), (None, 1)],
    )


async def test_500_unit_tests_take_a_handful_of_statements(only_requests, client, send, rows, monkeypatch):
    asked = []
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        whole = getattr(Connection, name)

        async def counted(self, query, *args, whole=whole, **options):
            asked.append(query)
            return await whole(self, query, *args, **options)

        monkeypatch.setattr(Connection, name, counted)
    status, body = await send(*[a_test(f"t{n}", console_logs=[{"level": "info", "message": "x"}]) for n in range(500)])
    assert status == 201 and len(asked) <= 8, asked
    assert SQL.test_cases.insert_bundled in asked
    assert counts(rows) == [500, 0, 0, 0, 500, 0]
    assert [each["id"] for each in body["tests"]] == sorted(each["id"] for each in body["tests"])


# --- wrong values ------------------------------------------------------------------------------------------------

TWICE = a_test()
WRONG = [
    ({"steps": [a_step(1), a_step(2), {**a_step(3), "status": "Broken"}]}, "tests[3].steps[2].status"),
    ({"steps": [a_step(1), a_step(1)]}, "tests[3].steps[1].step_number"),
    ({"steps": [a_step(1, parent_step_number=1)]}, "tests[3].steps[0].parent_step_number"),
    ({"test": {}}, "tests[3].test.name"),
    ({"test": {"name": "x", "attempt": 0}}, "tests[3].test.attempt"),
    ({"client_ref": None}, "tests[3].client_ref"),
    ({"client_ref": "me"}, "tests[3].client_ref"),
    ({"client_ref": TWICE["client_ref"]}, "tests[3].client_ref"),
    ({"checkpoints": [{"checkpoint_number": 1, "name": "a"}] * 2}, "tests[3].checkpoints[1].checkpoint_number"),
    (
        {"checkpoints": [{"checkpoint_number": 1, "name": "a", "screenshot_artifact_id": str(uuid.uuid4())}]},
        "tests[3].checkpoints[0].screenshot_artifact_id",
    ),
    ({"console_logs": [{"level": "info"}]}, "tests[3].console_logs[0].message"),
    ({"network_logs": [{"method": "GET", "url": ""}]}, "tests[3].network_logs[0].url"),
    ({"artifacts": [sent_file(0), sent_file(1) | {"artifact_type": "song"}]}, "tests[3].artifacts[1].artifact_type"),
    ({"artifacts": [{"artifact_type": "log"}]}, "tests[3].artifacts[0]"),
    ({"artifacts": [sent_file(0, known=True)]}, "tests[3].artifacts[0]"),
    ({"artifacts": [known(shot()) | {"checksum": None}]}, "tests[3].artifacts[0].checksum"),
    ({"artifacts": [{"later": True, "artifact_type": "log", **content(b"x")}]}, "tests[3].artifacts[0].file_name"),
    ({"artifacts": [sent_file(-1)]}, "tests[3].artifacts[0].file_index"),
    ({"steps": {}}, "tests[3].steps"),
]


@pytest.mark.parametrize(("wrong", "path"), WRONG)
async def test_one_wrong_field_writes_nothing_and_is_named(client, send, rows, stored_files, wrong, path):
    tests = [TWICE, *(a_test(**FULL, artifacts=[sent_file(n)]) for n in range(2)), {**a_test(), **wrong}]
    status, body = await send(*tests, files=[shot(1), shot(2)])
    assert (status, body["errors"][0]["path"]) == (422, path), body
    assert counts(rows) == [0] * 6 and stored_files() == []


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ([], "must not be empty"),
        ([{}] * 501, "at most 500"),
        ([a_test(steps=[a_step(n) for n in range(5001)]) for _ in range(2)], "at most 10000 steps in all"),
        ([a_test(console_logs=[{"level": "info", "message": "x"}] * 5001) for _ in range(2)], "10000 log entries"),
        ([a_test(artifacts=[known(shot(), step_number=n) for n in range(501)])], "500 known"),
    ],
)
async def test_the_numbers_are_limited(send, rows, tests, message):
    status, body = await send(*tests)
    assert status == 422 and body["errors"][0]["path"] == "tests" and message in body["detail"], body["detail"]
    assert counts(rows) == [0] * 6


async def test_other_bodies_are_refused(client, send, start):
    url = f"{RUNS}/{send.run}/bundle"
    for body, headers, status, code in [
        (b"x", {}, 415, "not_multipart"),
        (b"{", {"Content-Type": "application/json"}, 400, "malformed_body"),
        (b"[]", {"Content-Type": "application/json"}, 422, "invalid"),
        (b" " * ((16 << 20) + 1), {"Content-Type": "application/json"}, 413, "too_large"),
    ]:
        reply = await client.post(url, data=body, headers=headers)
        assert (reply.status, (await reply.json())["code"]) == (status, code), body[:9]
    for parts, status in [
        ([], 422),
        ([a_file(shot(), name="files")], 422),
        ([a_field("bundle", "{")], 400),
        ([a_field("bundle", b" " * ((16 << 20) + 1))], 413),
        ([a_field("bundle", "{}"), a_field("bundle", "{}")], 422),
        ([a_field("bundle", json.dumps({"tests": [a_test()]})), *[a_file(b"x", name="files")] * 51], 413),
    ]:
        assert (await post(client, url, a_body(*parts)))[0] == status, parts[:1]
    small = await start(api={"max_json_size": 1000})
    assert (await send(a_test("x" * 400, steps=[a_step(1, description="y" * 999)]), client=small))[0] == 413


async def test_a_missing_run_and_a_small_role_come_first(send, start, make_token):
    status, body = await send({"client_ref": 5}, run=str(uuid.uuid4()))
    assert (status, body["detail"]) == (404, "Suite run not found")
    viewer = await start(token=make_token(project="default", role="viewer"))
    assert (await send({"client_ref": 5}, client=viewer))[0] == 403
    theirs = await start(token=make_token(project="theirs"))
    assert (await send(a_test(), client=theirs))[0] == 404


# --- files -------------------------------------------------------------------------------------------------------


async def test_a_wrong_file_hurts_only_itself(client, send, rows, stored_files):
    tests = [
        a_test(artifacts=[sent_file(0), sent_file(1), sent_file(7)]),
        a_test(artifacts=[sent_file(0, step_number=1), sent_file(3)]),
        a_test(),
    ]
    status, body = await send(*tests, files=[shot(1), b"GIF89a", shot(3), shot(4)])
    assert (status, body["message"]) == (207, "Successfully stored 3 tests with 2 of 6 artifacts")
    one, two, _ = body["tests"]
    assert [(f["file_index"], f["code"]) for f in one["failed"]] == [(1, "file_corrupted"), (7, "no_file")]
    assert [(f["file_index"], f["code"]) for f in two["failed"]] == [(0, "duplicate_metadata")]
    assert [(f["file_index"], f["file_name"], f["code"]) for f in body["failed"]] == [(2, "2.png", "no_metadata")]
    assert [each["complete"] for each in body["tests"]] == [False, False, True]
    assert counts(rows)[:3] == [3, 0, 2] and len(stored_files()) == 2


async def test_files_that_come_later_make_a_test_incomplete(send, rows):
    later = {"later": True, "artifact_type": "video", "file_name": "a.webm", **content(b"video")}
    status, body = await send(a_test(artifacts=[later]))
    assert (status, body["tests"][0]["complete"], body["tests"][0]["failed"]) == (201, False, [])
    assert counts(rows)[2] == 0


async def test_equal_files_of_one_test_and_step_are_one_artifact(client, send, stored_files):
    files = [a_file(shot(), name, name="files") for name in ("same.png", "same.png", "other.png")]
    bundle = {"tests": [a_test(artifacts=[sent_file(n, step_number=1) for n in range(3)])]}
    status, body = await post(
        client, f"{RUNS}/{send.run}/bundle", a_body(a_field("bundle", json.dumps(bundle)), *files)
    )
    (test,) = body["tests"]
    assert (status, [each["duplicate"] for each in test["artifacts"]]) == (201, [False, True, False])
    assert len({each["storage_path"] for each in test["artifacts"]}) == len(stored_files()) == 2


# --- repetitions -------------------------------------------------------------------------------------------------


async def test_a_repeated_bundle_adds_nothing_and_has_the_same_ids(client, send, rows, stored_files):
    tests = [a_test(f"t{n}", **FULL, artifacts=[sent_file(n, step_number=1)]) for n in range(3)]
    files = [shot(n) for n in range(3)]
    _, first = await send(*tests, files=files)
    before = counts(rows), stored_files()
    for order in (tests, tests[::-1]):
        status, again = await send(*order, files=files)
        assert status == 201
        by_ref = {each["client_ref"]: each for each in again["tests"]}
        for each in first["tests"]:
            other = by_ref[each["client_ref"]]
            assert (other["id"], other["step_ids"], other["created"]) == (each["id"], each["step_ids"], False)
            assert [(a["id"], a["duplicate"]) for a in other["artifacts"]] == [
                (a["id"], True) for a in each["artifacts"]
            ]
    assert (counts(rows), stored_files()) == before


async def test_a_repetition_adds_only_what_the_run_does_not_have(client, send, rows, make_run):
    old, new = a_test("old", steps=[a_step(1)]), a_test("new", steps=[a_step(1)])
    _, first = await send(old)
    changed = {**old, "test": {"name": "changed", "status": "Failed"}, "steps": [a_step(1), a_step(2)]}
    status, body = await send(new, changed | {"artifacts": [sent_file(0, step_number=1)]}, files=[shot()])
    assert (status, [each["created"] for each in body["tests"]]) == (201, [True, False])
    again = body["tests"][1]
    assert (again["id"], again["step_ids"]) == (first["tests"][0]["id"], [first["tests"][0]["step_ids"][0], None])
    assert (await of_case(client, again["id"], "steps?shape=object"))[0]["screenshot"]["file_name"] == "0.png"
    names = [row["name"] for row in rows("SELECT name FROM test_case_results ORDER BY id")]
    assert names == ["old", "new"]
    status, body = await send(old, run=await make_run())  # another run
    assert body["tests"][0]["created"]


async def test_concurrent_bundles_with_the_same_refs_store_each_once(client, send, rows, stored_files):
    tests = [a_test(f"t{n}", steps=[a_step(1)], artifacts=[sent_file(n, step_number=1)]) for n in range(6)]
    files = [shot(n) for n in range(6)]
    replies = await asyncio.gather(*(send(*(tests if n % 2 else tests[::-1]), files=files) for n in range(6)))
    assert {status for status, _ in replies} == {201}
    for ref in [each["client_ref"] for each in tests]:
        found = [each for _, body in replies for each in body["tests"] if each["client_ref"] == ref]
        assert len({each["id"] for each in found}) == 1 and sum(each["created"] for each in found) == 1
    assert counts(rows)[:3] == [6, 6, 6] and len(stored_files()) == 6


async def test_a_repeated_request_with_a_key_is_replayed(send, rows):
    test = a_test(artifacts=[sent_file(0)])
    first = await send(test, files=[shot()], Idempotency_Key="k")
    again = await send(test, files=[shot()], Idempotency_Key="k")
    assert first == again and first[1]["tests"][0]["created"]
    assert (await send(a_test(), Idempotency_Key="k"))[1]["code"] == "idempotency_key_reused"
    assert counts(rows)[0] == 1


async def test_a_run_that_is_deleted_meanwhile_is_a_404(client, send, rows, stored_files):
    tests = [a_test(f"t{n}", artifacts=[sent_file(n)]) for n in range(3)]
    replies = await asyncio.gather(
        *(send(*tests, files=[shot(n) for n in range(3)]) for _ in range(3)), client.delete(f"{RUNS}/{send.run}")
    )
    assert {reply[0] for reply in replies[:-1]} <= {201, 404} and replies[-1].status == 204
    assert counts(rows) == [0] * 6 and stored_files() == []


@pytest.mark.parametrize("broken", ["steps.insert_new", "artifacts.insert_many", "steps.matching", "errors.add"])
async def test_a_failed_statement_leaves_neither_rows_nor_files(
    client, send, rows, storage, stored_files, monkeypatch, broken
):
    noun, _, name = broken.partition(".")
    steps = [a_step(1, status="Failed", error_message="no")]
    test = a_test(steps=steps, artifacts=[sent_file(0, step_number=1)]) | {"test": {"name": "x", "status": "Failed"}}
    with monkeypatch.context() as patch:
        patch.setattr(getattr(SQL, noun), name, "SELEKT 1")
        assert (await send(test, files=[shot()]))[0] == 500
    assert counts(rows) == [0] * 6 and stored_files() == []
    assert (await send(test, files=[shot()]))[0] == 201


async def test_the_memory_of_a_bundle_is_reserved_until_the_reply(client, send, monkeypatch):
    held = []
    admission = client.app[SERVICES].admission
    save = bundles.save

    async def watched(*args):
        held.append(admission.memory)
        return await save(*args)

    monkeypatch.setattr(bundles, "save", watched)
    status, _ = await send(a_test(steps=[a_step(n, description="x" * 10_000) for n in range(100)]))
    assert status == 201 and held[0] >= 1_000_000
    assert admission.memory == 0
