"""PUT /suite-runs/{id}/shards/{index} and GET /suite-runs/{id}/completeness."""

import asyncio
import itertools

import pytest

from server.reports import shards as stored_shards
from tests.api.test_artifacts import shot
from tests.api.test_bundles import RUNS, a_test, send, sent_file  # noqa: F401  send is a fixture
from tests.api.test_known import content
from tests.forms import batch, post, single


@pytest.fixture
async def put(client, make_run):
    """await put(index, total, status, run=…, **fields): status and reply."""
    default = await make_run()

    async def sent(index, total=3, status="Passed", run=None, client=client, **fields):
        body = {"total": total, "status": status, **fields}
        reply = await client.put(f"{RUNS}/{run or default}/shards/{index}", json=body)
        return reply.status, await reply.json()

    sent.run = default
    return sent


async def completeness(client, run):
    reply = await client.get(f"{RUNS}/{run}/completeness")
    assert reply.status == 200
    return await reply.json()


def later(data, name="video.webm"):
    return {"later": True, "artifact_type": "other", "file_name": name, **content(data)}


# --- shards and the run --------------------------------------------------------------------------------------------


async def test_the_last_of_five_shards_finishes_the_run(client, put):
    for index in (1, 2, 3, 4):
        status, run = await put(index, 5, "Failed" if index == 2 else "Passed", tests_expected=2)
        assert (status, run["status"], run["finished_at"]) == (200, "Running", None)
    found = await completeness(client, put.run)
    assert found["shards"] == {"total": 5, "finished": 4, "running": [], "silent": [5], "errors": []}
    assert (found["complete"], found["tests_expected"], found["tests_received"]) == (False, 8, 0)
    status, run = await put(5, 5, "Running", started_at="2026-01-24T12:00:00Z")
    assert run["status"] == "Running"
    assert (await completeness(client, put.run))["shards"]["running"] == [5]
    status, run = await put(5, 5, "Passed", finished_at="2030-01-24T12:00:00Z")
    assert (run["id"], run["status"], run["finished_at"]) == (put.run, "Failed", "2030-01-24T12:00:00.000Z")


async def test_the_last_word_of_a_shard_counts(client, put):
    await put(1, 2, "Failed", errors=["no browser"], tests_expected=7)
    assert (await put(2, 2))[1]["status"] == "Failed"
    assert (await completeness(client, put.run))["shards"]["errors"] == [{"index": 1, "error": "no browser"}]
    _, run = await put(1, 2, "Running")
    assert (run["status"], run["finished_at"]) == ("Running", None)
    _, run = await put(1, 2, "Passed")
    assert run["status"] == "Passed" and run["finished_at"]
    found = await completeness(client, put.run)
    assert found["complete"] and found["tests_expected"] is None and found["shards"]["errors"] == []


async def test_a_late_word_does_not_undo_the_end_of_a_shard(client, put):
    """As of a client that sends the same again from its beginning. A job that is repeated begins at another time."""
    begin, again = {"started_at": "2026-01-24T12:00:00Z"}, {"started_at": "2026-01-24T12:30:00Z"}
    for _ in range(2):
        await put(1, 1, "Running", **begin, tests_expected=3)
        await put(1, 1, "Failed", **begin, tests_expected=5, finished_at="2026-01-24T12:10:00Z", errors=["boom"])
    _, run = await put(1, 1, "Running", **begin, tests_expected=3)
    assert (run["status"], run["finished_at"]) == ("Failed", "2026-01-24T12:10:00.000Z")
    found = await completeness(client, put.run)
    assert (found["tests_expected"], found["shards"]["finished"]) == (5, 1) and found["shards"]["errors"]
    _, run = await put(1, 1, "Running", **again)
    assert (run["status"], run["finished_at"]) == ("Running", None)
    _, run = await put(1, 1, "Passed", **again)
    assert run["status"] == "Passed"


async def test_a_shard_does_not_expect_fewer_tests_than_before(client, put):
    """A job whose tests were killed may send the report of those that ran."""
    for begun, tests, expected in [
        (0, 6, 6),
        (0, 9, 9),
        (0, 6, 9),
        (30, None, 9),
        (30, 4, 9),
        (30, 4, 9),
        (45, 10, 10),
    ]:
        await put(1, 1, started_at=f"2026-01-24T12:{begun:02}:00Z", tests_expected=tests)
        assert (await completeness(client, put.run))["tests_expected"] == expected


async def test_what_a_patch_has_set_stays(client, put, make_run):
    """Whether it was before the shards finished, or after it."""
    end = {"finished_at": "2026-01-24T12:30:00.000Z"}
    passed = {"status": "Passed"}
    for patch, kept in [(passed, {**passed, "finished_at": None}), (end, {"status": "Failed", **end})]:
        run = await make_run()
        await put(1, 2, "Failed", run=run)
        assert (await client.patch(f"{RUNS}/{run}", json=patch)).status == 200
        assert kept.items() <= (await put(2, 2, run=run))[1].items()
    await put(1, 1, "Failed")
    await client.patch(f"{RUNS}/{put.run}", json={"branch": "main"})
    assert (await put(1, 1, "Passed"))[1]["status"] == "Passed"
    await client.patch(f"{RUNS}/{put.run}", json={"status": "Skipped"})
    assert (await put(1, 1, "Failed"))[1]["status"] == "Skipped"


async def test_a_run_that_was_created_as_finished_stays_so(put, make_run):
    run = await make_run(status="Skipped")
    assert (await put(1, 1, "Failed", run=run))[1]["status"] == "Skipped"


async def test_another_total_is_refused_and_both_are_named(client, put):
    await put(1, 3)
    for index, total in [(2, 4), (1, 2), (3, 1000)]:
        status, body = await put(index, total)
        assert (status, body["code"]) == (409, "shard_total_differs")
        assert f"total {total}," in body["detail"] and "said 3." in body["detail"]
    assert (await completeness(client, put.run))["shards"]["finished"] == 1


WRONG = [
    ("0", {}, "index"),
    ("4", {}, "index"),
    ("-1", {}, "index"),
    ("one", {}, "index"),
    ("٣", {}, "index"),
    ("9" * 5000, {}, "index"),
    ("1", {"total": 0}, "total"),
    ("1", {"total": 1001}, "total"),
    ("1", {"total": "3"}, "total"),
    ("1", {"total": None}, "total"),
    ("1", {"status": "Skipped"}, "status"),
    ("1", {"status": None}, "status"),
    ("1", {"tests_expected": -1}, "tests_expected"),
    ("1", {"errors": "none"}, "errors"),
    ("1", {"errors": ["x"] * 101}, "errors"),
    ("1", {"status": "Running", "finished_at": "2026-01-24T12:30:00Z"}, "finished_at"),
    ("1", {"started_at": "yesterday"}, "started_at"),
]


async def test_wrong_values_are_refused_and_nothing_is_stored(put, rows):
    for index, fields, path in WRONG:
        status, body = await put(index, **fields)
        assert (status, body["errors"][0]["path"]) == (422, path), (index, fields, body)
    assert rows("SELECT FROM suite_run_shards") == []


async def test_a_run_that_does_not_exist_is_404_before_anything_else(client, put, make_token):
    gone = "019bef12-7a41-7c3e-8d25-5b0c1f6e9a01"
    assert (await put("x", 1, "Nothing", run=gone))[0] == 404
    assert (await client.get(f"{RUNS}/{gone}/completeness")).status == 404
    other = {"Authorization": f"Bearer {make_token(project='other')}"}
    assert (await client.get(f"{RUNS}/{put.run}/completeness", headers=other)).status == 404
    reply = await client.put(f"{RUNS}/{put.run}/shards/1", json={"total": 1, "status": "Passed"}, headers=other)
    assert reply.status == 404


async def test_statuses_in_any_case_and_long_errors_are_repaired(client, put):
    hostile = "<script>\x00‮" + "x" * 3000
    status, _ = await put(1, 1, "failed", errors=[hostile])
    (found,) = (await completeness(client, put.run))["shards"]["errors"]
    assert status == 200 and found["error"].startswith("<script>") and len(found["error"]) <= 2000


async def test_all_shards_finish_at_once_and_the_run_finishes_once(client, put, make_run, rows):
    """Each sees those before it: otherwise none would be the last one."""
    for _ in range(5):
        run = await make_run()
        replies = await asyncio.gather(
            *[put(index, 8, "Failed" if index == 3 else "Passed", run=run) for index in range(1, 9)]
        )
        assert [status for status, _ in replies] == [200] * 8
        assert sorted(run["status"] for _, run in replies) == ["Failed", *["Running"] * 7]
        (row,) = rows("SELECT status, finished_at FROM suite_runs WHERE id = %s", run)
        assert row["status"] == "Failed" and row["finished_at"]


async def test_of_two_totals_at_once_one_is_stored(put, make_run):
    for _ in range(5):
        run = await make_run()
        replies = await asyncio.gather(*[put(1 + total % 2, total, run=run) for total in (4, 5)])
        assert sorted(status for status, _ in replies) == [200, 409]


async def test_a_fault_after_the_shard_is_stored_stores_nothing(client, put, rows, monkeypatch):
    async def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(stored_shards.suite_runs, "by_id", broken)
    assert (await put(1, 1))[0] == 500
    assert rows("SELECT FROM suite_run_shards") == []
    assert rows("SELECT status FROM suite_runs") == [{"status": "Running"}]


async def test_shards_and_missing_files_go_with_their_run(client, put, send, rows):  # noqa: F811
    await send(a_test(artifacts=[later(shot(1))]), run=put.run)
    await put(1, 1)
    assert (await client.delete(f"{RUNS}/{put.run}")).status == 204
    assert rows("SELECT FROM suite_run_shards") == rows("SELECT FROM expected_artifacts") == []


# --- tests that are missing ------------------------------------------------------------------------------------------


async def test_tests_are_compared_with_how_many_each_shard_has(client, put, send):  # noqa: F811
    await put(1, 2, tests_expected=2)
    await put(2, 2, tests_expected=1)
    tests = [{"name": "pays", "test_id": "a", "attempt": n, "status": "Passed"} for n in (1, 2)]
    tests.append({"name": "pays", "test_id": "a", "browser": "firefox", "status": "Passed"})
    await send(*[{**a_test(), "test": test} for test in tests], run=put.run)
    found = await completeness(client, put.run)
    assert (found["complete"], found["tests_expected"], found["tests_received"]) == (False, 3, 2)
    await send(a_test("another"), run=put.run)
    assert (await completeness(client, put.run))["complete"]


async def test_a_run_without_shards_is_complete_when_it_has_ended(client, make_run):
    run = await make_run()
    found = await completeness(client, run)
    assert found["shards"] == {"total": 1, "finished": 0, "running": [1], "silent": [], "errors": []}
    assert not found["complete"] and found["tests_expected"] is None
    await client.patch(f"{RUNS}/{run}", json={"status": "Passed"})
    assert (await completeness(client, run))["complete"]


# --- files that are missing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["single", "batch", "known", "bundle"])
async def test_a_file_that_was_to_come_later_is_missing_until_it_arrives(client, send, rows, how):  # noqa: F811
    test = a_test(artifacts=[later(shot(1), "shots/../a.png")])
    _, body = await send(test)
    case = f"/api/v1/reports/test-case-results/{body['tests'][0]['id']}"
    (missing,) = (await completeness(client, send.run))["artifacts_missing"]
    expected = {"file_name": "a.png", "reason": "later", **content(shot(1))}
    assert expected.items() <= missing.items() and missing["test_case_result_id"] == body["tests"][0]["id"]
    assert missing["test_id"] == "pays"

    # The same bytes for another test, or other bytes for this one, change nothing.
    await send(a_test("other", artifacts=[sent_file(0)]), files=[shot(1)])
    await post(client, f"{case}/artifacts", single(shot(2)))
    assert len((await completeness(client, send.run))["artifacts_missing"]) == 1

    known = {"known": True, "artifact_type": "screenshot", "file_name": "b.png", **content(shot(1))}
    if how == "single":
        status, _ = await post(client, f"{case}/artifacts", single(shot(1), name="c.png"))
    elif how == "batch":
        status, _ = await post(client, f"{case}/artifacts/batch", batch([(shot(1), "c.png")]))
    else:
        status, _ = await send(
            {**test, "artifacts": [known if how == "known" else sent_file(0)]},
            files=[shot(1)] if how == "bundle" else [],
        )
    assert status == 201
    assert (await completeness(client, send.run))["artifacts_missing"] == []
    assert rows("SELECT FROM expected_artifacts") == []
    await send(test)  # sent again after days: the file is there
    assert rows("SELECT FROM expected_artifacts") == []


async def test_a_refused_file_is_missing_with_its_reason_until_it_comes(client, send, rows):  # noqa: F811
    torn = shot(1)[:90]
    unknown = {"known": True, "artifact_type": "screenshot", "file_name": "k.png", **content(shot(9))}
    entries = [sent_file(0), {**sent_file(1), "checksum": content(shot(3))["checksum"]}, sent_file(2), unknown]
    test = a_test(artifacts=[*entries, {**sent_file(7), "file_name": "never.png"}])
    status, body = await send(test, files=[torn, shot(2), b""])
    assert status == 207
    missing = (await completeness(client, send.run))["artifacts_missing"]
    by_name = {each["file_name"]: (each["checksum"], each["reason"].partition(".")[0]) for each in missing}
    assert by_name == {
        "0.png": (content(torn)["checksum"], "refused: File corrupted or unreadable"),
        "1.png": (content(shot(3))["checksum"], "refused: Checksum mismatch"),
        "2.png": (None, "refused: File is empty"),
        "k.png": (content(shot(9))["checksum"], "content missing"),
        "never.png": (None, "refused: No file with this index"),
    }
    await send(test, files=[torn, shot(2), b""])  # the same again is the same
    assert len((await completeness(client, send.run))["artifacts_missing"]) == 5
    case = f"/api/v1/reports/test-case-results/{body['tests'][0]['id']}/artifacts"
    await post(client, f"{case}/batch", batch([(shot(3), "x.png"), (shot(4), "2.png"), (shot(9), "y.png")]))
    left = {each["file_name"] for each in (await completeness(client, send.run))["artifacts_missing"]}
    assert left == {"0.png", "never.png"}  # without a checksum, the name counts


async def test_a_file_that_the_client_refused_is_missing_until_it_comes(client, send, rows):  # noqa: F811
    reason = "No such file <b>\x00" + "x" * 3000
    gone = {"refused": reason, "artifact_type": "screenshot", "file_name": "a/gone.png"}
    large = {"refused": "Too large", "artifact_type": "other", "file_name": "v.webm", **content(shot(1))}
    test = a_test(artifacts=[sent_file(0), gone, large])
    status, body = await send(test, files=[shot(2)])
    (stored,) = body["tests"]
    assert (status, len(stored["artifacts"]), stored["failed"], stored["complete"]) == (201, 1, [], False)
    missing = {each["file_name"]: each for each in (await completeness(client, send.run))["artifacts_missing"]}
    assert missing["gone.png"]["reason"].startswith("refused: No such file <b>")
    assert missing["gone.png"]["checksum"] is missing["gone.png"]["file_size"] is None
    assert {"reason": "refused: Too large", **content(shot(1))}.items() <= missing["v.webm"].items()
    case = f"/api/v1/reports/test-case-results/{stored['id']}/artifacts"
    await post(client, f"{case}/batch", batch([(shot(3), "gone.png"), (shot(1), "w.webm")]))
    assert (await completeness(client, send.run))["artifacts_missing"] == []
    assert rows("SELECT FROM expected_artifacts") == []


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"refused": "x"}, ".file_name"),
        ({"refused": "x", "file_name": "a", "later": True}, ""),
        ({"refused": "x", "file_name": "a", "file_index": 0}, ""),
        ({"refused": ["x"], "file_name": "a"}, ".refused"),
        ({"refused": "x", "file_name": "a", "checksum": "1"}, ".checksum"),
    ],
)
async def test_a_refused_file_needs_a_name_and_is_nothing_else(send, rows, entry, path):  # noqa: F811
    status, body = await send(a_test(artifacts=[{"artifact_type": "other", **entry}]))
    assert (status, body["errors"][0]["path"]) == (422, f"tests[0].artifacts[0]{path}")
    assert rows("SELECT FROM test_case_results") == []


async def test_a_good_run_has_no_rows_and_costs_no_statement(client, send, rows, monkeypatch):  # noqa: F811
    called = []
    monkeypatch.setattr(stored_shards, "encode_many", lambda *_: called.append(1))
    await send(a_test(artifacts=[sent_file(0)]), a_test("other"), files=[shot(1)])
    assert called == [] and rows("SELECT FROM expected_artifacts") == []


async def test_more_missing_files_than_a_reply_has(client, send):  # noqa: F811
    names = itertools.count()
    tests = [a_test(artifacts=[later(shot(1), f"{next(names)}.png") for _ in range(300)]) for _ in range(2)]
    await send(*tests)
    found = await completeness(client, send.run)
    assert len(found["artifacts_missing"]) == 500 and found["truncated"] and not found["complete"]
    status, body = await send(*[a_test(artifacts=[later(shot(1))] * 1000) for _ in range(11)])
    assert status == 422 and "later files" in body["detail"]


async def test_bundles_and_uploads_of_the_same_results_at_once_do_not_deadlock(client, send, rows):  # noqa: F811
    """The locks of repeated results are taken in one order, whether their files come or are missing."""
    tests = [a_test(f"t{n}") for n in range(4)]
    await send(*tests)
    sent = []
    for n in range(6):
        here = [sent_file(0), later(shot(50 + n))]
        some = [{**test, "artifacts": [here[0]] if (i + n) % 4 == 0 else [here[1]]} for i, test in enumerate(tests)]
        sent.append(send(*(some if n % 2 else reversed(some)), files=[shot(n)]))
    assert [status for status, _ in await asyncio.gather(*sent)] == [201] * 6
    assert len(rows("SELECT FROM expected_artifacts")) == 18
