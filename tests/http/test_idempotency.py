"""Idempotency keys on JSON: a POST that is sent twice has one effect and one reply."""

import asyncio
import json
import time
import uuid

import psycopg
import pytest

from server.auth.tokens import hash_of
from server.database.queries import SQL, data_folder
from tests.api.test_steps import a_step
from tests.http.test_requests import send_raw
from tests.up_server import PATIENCE

RUNS = "/api/v1/reports/suite-runs"
STORED = "SELECT key FROM idempotency_replies UNION ALL SELECT key FROM idempotency_keys"


async def post(client, url, body, key="k", **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post(url, data=data, headers={"Idempotency-Key": key, **headers})


async def content(reply):
    """Status, body and content type of a reply, to be compared."""
    return reply.status, await reply.read(), reply.headers["Content-Type"]


def is_replay(reply):
    return reply.headers.get("Idempotent-Replayed") == "true"


async def code(reply):
    return reply.status, (await reply.json())["code"]


# --- replays ---------------------------------------------------------------------------------------------------


async def test_every_json_post_with_a_key_is_executed_once(client, make_run, case_url, rows):
    run, case = await make_run(), await case_url()
    for url, body, table in [
        (RUNS, {"name": "x"}, "suite_runs"),
        (f"{RUNS}/{run}/test-cases", {"name": "x"}, "test_case_results"),
        (f"{RUNS}/{run}/test-cases/bulk", {"test_cases": [{"name": "x"}] * 2}, "test_case_results"),
        (f"{case}/steps", {"steps": [a_step(1)]}, "test_step_results"),
        (f"{case}/steps/bulk", {"steps": [a_step(2)]}, "test_step_results"),
        (f"{case}/checkpoints", {"checkpoints": [{"checkpoint_number": 1, "name": "c"}]}, "test_checkpoints"),
        (f"{case}/console-logs", {"entries": [{"level": "info", "message": "m"}]}, "test_console_logs"),
        (f"{case}/network-logs", {"entries": [{"method": "GET", "url": "/"}]}, "test_network_logs"),
    ]:
        first = await post(client, url, body, key=url)
        assert first.status == 201 and not is_replay(first)
        written = rows(f"SELECT * FROM {table}")
        for _ in range(2):
            again = await post(client, url, body, key=url)
            assert is_replay(again) and await content(again) == await content(first), url
            assert again.headers["Cache-Control"] == "no-store"
        assert rows(f"SELECT * FROM {table}") == written


async def test_a_replay_is_the_first_reply_and_not_the_current_state(client, rows):
    first = await post(client, RUNS, {"name": "x", "run_key": "r"})
    run = (await first.json())["id"]
    await client.patch(f"{RUNS}/{run}", json={"name": "changed"})
    assert await content(await post(client, RUNS, {"name": "x", "run_key": "r"})) == await content(first)
    other_key = await post(client, RUNS, {"name": "x", "run_key": "r"}, key="other")
    assert (other_key.status, (await other_key.json())["name"]) == (200, "changed")
    assert (await post(client, RUNS, {"name": "x", "run_key": "r"}, key="other")).status == 200


async def test_without_a_key_each_request_is_executed(client, rows):
    for _ in range(2):
        assert not is_replay(await client.post(RUNS, json={"name": "x"}))
    assert len(rows("SELECT FROM suite_runs")) == 2
    assert rows(STORED) == []


# --- a reused key ----------------------------------------------------------------------------------------------


async def test_the_same_key_for_another_request_is_refused(client, make_run, rows):
    run, other = await make_run(), await make_run()
    url = f"{RUNS}/{run}/test-cases"
    assert (await post(client, url, {"name": "x"})).status == 201
    for another_url, body in [
        (url, {"name": "y"}),
        (url, b'{"name":"x"}  '),
        (f"{RUNS}/{other}/test-cases", {"name": "x"}),
        (f"{url}/bulk", {"test_cases": [{"name": "x"}]}),
        (f"{url}?x=1", {"name": "x"}),
        (RUNS, {"name": "x"}),
    ]:
        reply = await post(client, another_url, body)
        assert await code(reply) == (422, "idempotency_key_reused"), another_url
        assert "used for a different request" in (await reply.json())["detail"]
    assert len(rows("SELECT FROM test_case_results")) == 1 and len(rows("SELECT FROM suite_runs")) == 2
    assert is_replay(await post(client, url, {"name": "x"}))


async def test_two_callers_may_use_the_same_key(client, start, make_token, rows):
    other = await start(token=make_token(project="default"))
    replies = [await post(caller, RUNS, {"name": "x"}) for caller in (client, other, client, other)]
    assert [reply.status for reply in replies] == [201] * 4
    assert [is_replay(reply) for reply in replies] == [False, False, True, True]
    assert len({(await reply.json())["id"] for reply in replies}) == len(rows("SELECT FROM suite_runs")) == 2


async def test_keys_are_compared_exactly(client, rows):
    keys = ["k", "K", "k k", "x" * 200, "x" * 199, '!"#$%&()*+,-./:;<=>?@[]^_`{|}~']
    for key in keys:
        assert not is_replay(await post(client, RUNS, {"name": "x"}, key=key))
    assert len(rows("SELECT FROM suite_runs")) == len(keys)


# --- failures --------------------------------------------------------------------------------------------------


async def test_a_failed_request_does_not_store_its_key(client, case_url, rows):
    case = await case_url()
    assert (await post(client, f"{case}/steps", {"steps": [{"step_number": 1}]})).status == 422
    assert (await post(client, f"{case}/steps", b"{")).status == 400
    assert (await client.post(f"{case}/steps", json={"steps": [a_step(1)]})).status == 201
    assert await code(await post(client, f"{case}/steps", {"steps": [a_step(2)]})) == (409, "steps_exist")
    unknown = f"/api/v1/reports/test-case-results/{uuid.uuid4()}/steps"
    assert (await post(client, unknown, {"steps": []})).status == 404
    assert rows(STORED) == []
    # The key can still be used for a valid request.
    reply = await post(client, f"{case}/steps/bulk", {"steps": [a_step(2)]})
    assert (reply.status, is_replay(reply)) == (201, False)


async def test_an_error_in_the_transaction_stores_neither_key_nor_rows(client, rows, monkeypatch):
    by_id = SQL.suite_runs.by_id
    monkeypatch.setattr(SQL.suite_runs, "by_id", "SELECT 1 / 0, $1::uuid, $2::uuid")
    assert (await post(client, RUNS, {"name": "x"})).status >= 400
    assert rows("SELECT FROM suite_runs") == rows(STORED) == []
    monkeypatch.setattr(SQL.suite_runs, "by_id", by_id)
    reply = await post(client, RUNS, {"name": "x"})
    assert (reply.status, is_replay(reply)) == (201, False)


# --- concurrent requests with one key --------------------------------------------------------------------------


async def test_concurrent_requests_with_one_key_have_one_effect_and_one_reply(client, rows):
    replies = await asyncio.gather(*(post(client, RUNS, {"name": "x"}) for _ in range(8)))
    assert len({await content(reply) for reply in replies}) == 1
    assert [reply.status for reply in replies] == [201] * 8
    assert sorted(is_replay(reply) for reply in replies) == [False] + [True] * 7
    assert len(rows("SELECT FROM suite_runs")) == 1


@pytest.fixture(params=["newer", "older"])
def twin(request, dsn, rows, client):
    """An open transaction that holds the key `k` of the client, as a concurrent request with that key does: to a server
    of this version, or to one of the release before while hosts are upgraded."""
    token = client.session.headers["Authorization"].removeprefix("Bearer ")
    (caller,) = rows("SELECT id FROM tokens WHERE token_hash = %s", hash_of(token))
    with psycopg.connect(dsn) as connection:
        if request.param == "newer":
            connection.execute("SELECT pg_advisory_xact_lock(uuid_hash(%s), hashtext('k'))", [caller["id"]])
            stored = caller["id"], "k", b"x", 201, None
            connection.keep = lambda: psycopg.RawCursor(connection).execute(SQL.idempotency.keep, stored)
        else:
            connection.execute((data_folder("migrations") / "0045_drop_idempotency_trigger.rollback.sql").read_text())
            connection.commit()
            claim = "INSERT INTO idempotency_keys (caller_id, key, fingerprint) VALUES (%s, 'k', 'x')"
            connection.execute(claim, [caller["id"]])
            keep = "UPDATE idempotency_keys SET status = 201 WHERE caller_id = %s"
            connection.keep = lambda: connection.execute(keep, [caller["id"]])
        yield connection
        connection.rollback()


async def test_a_request_whose_twin_does_not_finish_gets_409_and_retry_after(client, twin, rows):
    waiting = asyncio.create_task(post(client, RUNS, {"name": "x"}))
    free = await post(client, RUNS, {"name": "x"}, key="another")
    assert free.status == 201 and not waiting.done()
    reply = await waiting
    assert await code(reply) == (409, "idempotency_in_progress")
    assert reply.headers["Retry-After"] == "1"
    assert len(rows("SELECT FROM suite_runs")) == 1
    twin.rollback()
    assert (await post(client, RUNS, {"name": "x"})).status == 201


async def until_waiting(rows):
    """Wait until a request is blocked on the twin's lock."""
    deadline = time.monotonic() + 30
    while not rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"):
        assert time.monotonic() < deadline, "no request waits for a lock"
        await asyncio.sleep(0.01)


async def test_a_request_whose_twin_is_rolled_back_is_executed(client, twin, rows):
    waiting = asyncio.create_task(post(client, RUNS, {"name": "x"}))
    await until_waiting(rows)
    twin.rollback()
    reply = await waiting
    assert (reply.status, is_replay(reply)) == (201, False)


async def test_a_request_whose_twin_commits_uses_the_stored_reply(client, twin, rows):
    waiting = asyncio.create_task(post(client, RUNS, {"name": "x"}))
    await until_waiting(rows)
    twin.keep()
    twin.commit()
    # The twin counts as a different request, since the fixture's fingerprint matches none.
    assert await code(await waiting) == (422, "idempotency_key_reused")
    assert rows("SELECT FROM suite_runs") == []


# --- keys ------------------------------------------------------------------------------------------------------


async def test_bad_keys_are_refused(client, case_url, rows):
    case = await case_url()
    for url, body in [(RUNS, {"name": "x"}), (f"{case}/console-logs", {"entries": []})]:
        for key in ("", " ", "x" * 201, "ü", "\U0001f600"):
            reply = await post(client, url, body, key=key)
            assert reply.status == 422, key
            assert (await reply.json())["errors"][0]["path"] == "Idempotency-Key", key
    for character in "\t\x01\x7f":  # a well-behaved client does not send these
        head = f"POST {RUNS} HTTP/1.1\r\nIdempotency-Key: a{character}b\r\nContent-Length: 2"
        received = await send_raw(client, head, b"{}")
        assert received.split()[1] in (b"400", b"422"), received
    assert len(rows("SELECT FROM suite_runs")) == 1 and rows(STORED) == []


async def test_other_methods_ignore_the_key(client, make_run, case_url, rows):
    run, case = await make_run(), await case_url()
    await client.post(f"{case}/steps", json={"steps": [a_step(1)]})
    (step,) = (await (await client.get(f"{case}/steps")).json())["steps"]
    for key in ("k", "x" * 201):
        for method, url, body in [
            ("PATCH", f"{RUNS}/{run}", {"name": key}),
            ("PATCH", case, {"name": key}),
            ("PUT", f"{case}/steps", {"steps": [a_step(1, action=key[:9])]}),
            ("PATCH", f"/api/v1/reports/steps/{step['id']}", {"screenshot_artifact_id": None}),
            ("GET", RUNS, None),
            ("POST", "/api/v1/auth/session", None),
        ]:
            for _ in range(2):
                reply = await client.request(method, url, json=body, headers={"Idempotency-Key": key})
                assert reply.status in (200, 201) and not is_replay(reply), (method, url)
    assert (await client.delete(f"{RUNS}/{run}", headers={"Idempotency-Key": "k"})).status == 204
    assert rows(STORED) == []


# --- expiry, see also test_idempotency_days.py ------------------------------------------------------------------


async def test_old_keys_of_no_day_are_deleted_1000_at_a_time(only_requests, client, rows):
    rows(SQL.idempotency.make_days)  # by the server's first sweep, before or after these requests
    for key in ("young", "old"):
        await post(client, RUNS, {"name": "x"}, key=key)
    for hours, key in ((47, "young"), (49, "old")):
        rows(
            "WITH moved AS (DELETE FROM idempotency_replies WHERE key = %s RETURNING *) INSERT INTO idempotency_keys"
            " SELECT caller_id, key, fingerprint, status, body, created_at - make_interval(hours => %s) FROM moved",
            key,
            hours,
        )
    sweep = SQL.idempotency.sweep.replace("$1", "48")
    rows(sweep)
    assert rows(STORED) == [{"key": "young"}]
    assert is_replay(await post(client, RUNS, {"name": "x"}, key="young"))
    assert not is_replay(await post(client, RUNS, {"name": "x"}, key="old"))
    rows(
        "INSERT INTO idempotency_keys (caller_id, key, fingerprint, created_at)"
        " SELECT gen_random_uuid(), n, '', now() - interval '50 hours' FROM generate_series(1, 1001) n"
    )
    rows(sweep)
    assert len(rows("SELECT FROM idempotency_keys")) == 1 + 1


async def test_a_server_deletes_old_keys_and_removed_files_when_it_starts(start, rows):
    rows(
        "INSERT INTO removed_files (storage_path, project_id, checksum, unlinked_at)"
        " SELECT n, gen_random_uuid(), '', now() - make_interval(hours => n) FROM generate_series(20, 2500) n"
    )
    rows(
        "INSERT INTO idempotency_keys (caller_id, key, fingerprint, created_at)"
        " SELECT gen_random_uuid(), n, '', now() - make_interval(hours => n) FROM generate_series(40, 1100) n"
    )
    await start()
    async with asyncio.timeout(PATIENCE):
        while len(rows("SELECT FROM removed_files")) > 4 or len(rows("SELECT FROM idempotency_keys")) > 8:
            await asyncio.sleep(0.02)
    assert sorted(int(row["key"]) for row in rows("SELECT key FROM idempotency_keys")) == list(range(40, 48))
    # Paths of files that were unlinked within a day stay reserved.
    assert sorted(row["storage_path"] for row in rows("SELECT storage_path FROM removed_files")) == list(
        map(str, range(20, 24))
    )


@pytest.mark.parametrize("padding", [0, 400_000], ids=["small body", "large body"])
async def test_a_reply_about_a_deleted_run_is_not_replayed(client, make_run, padding):
    run = await make_run()
    url = f"/api/v1/reports/suite-runs/{run}/test-cases"
    sent = {"json": {"name": "x", "ignored": "y" * padding}, "headers": {"Idempotency-Key": "k"}}
    assert (await client.post(url, **sent)).status == 201
    assert (await client.post(url, **sent)).headers["Idempotent-Replayed"] == "true"
    assert (await client.delete(f"/api/v1/reports/suite-runs/{run}")).status == 204
    reply = await client.post(url, **sent)
    assert (reply.status, (await reply.json())["detail"]) == (404, "Suite run not found")
