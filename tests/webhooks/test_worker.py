"""From the event to the target: retries, parallel targets and servers, and what is said in the end."""

import asyncio
import logging
import uuid

import pytest
from aiohttp import web

from server.database.pool import open_pool
from server.ids import lowest_id
from server.services import SERVICES
from server.webhooks import outbox, retries, worker
from server.webhooks.events import ping

BASE = "/api/v1/reports/suite-runs"
STATES = "SELECT webhook, attempts, due_at IS NULL AS settled, delivered_at IS NOT NULL AS delivered, status, answer"


async def finish(client, name="nightly", status="Passed", **fields):
    """The id of a new run that has finished."""
    made = await client.post(BASE, json={"name": name, **fields})
    run = (await made.json())["id"]
    reply = await client.patch(f"{BASE}/{run}", json={"status": status})
    assert reply.status == 200, await reply.text()
    return run


async def until(check, seconds=20):
    async with asyncio.timeout(seconds):
        while not (found := check()):
            await asyncio.sleep(0.01)
    return found


@pytest.fixture
def states(rows):
    """states(): what became of all deliveries, the oldest first."""
    return lambda: rows(f"{STATES} FROM webhook_deliveries ORDER BY id")


async def test_a_finished_run_is_sent_once(serve, hook, target, states):
    client = await serve(hook(target))
    await finish(client)
    await target.until(1)
    await until(lambda: states()[0]["delivered"])
    await asyncio.sleep(0.1)
    assert len(target.requests) == 1
    assert states() == [
        {"webhook": "127.0.0.1", "attempts": 1, "settled": True, "delivered": True, "status": 204, "answer": ""}
    ]


async def test_a_target_that_fails_is_sent_the_same_again(serve, hook, make_target, states):
    replies = iter([500, 302, 429, 200])

    async def answer(_):
        return web.Response(status=next(replies), text="wait")

    target = await make_target(answer)
    await finish(await serve(hook(target)))
    await until(lambda: states()[0]["delivered"])
    assert len(target.requests) == 4 and len(set(target.ids)) == 1
    assert len({body for _, body in target.requests}) == 1
    assert [(row["attempts"], row["status"], row["answer"]) for row in states()] == [(4, 200, "wait")]


async def test_the_signature_is_made_anew_for_each_attempt(serve, hook, make_target, states, monkeypatch):
    """Otherwise a target would refuse it as too old."""
    times = iter(range(1_000_000, 2_000_000, 600))
    monkeypatch.setattr("server.webhooks.send.time.time", lambda: next(times))

    async def answer(_):
        return web.Response(status=200 if len(target.requests) > 2 else 500)

    target = await make_target(answer)
    await finish(await serve(hook(target)))
    await until(lambda: states()[0]["delivered"])
    assert len({headers["webhook-timestamp"] for headers, _ in target.requests}) == 3
    assert len({headers["webhook-signature"] for headers, _ in target.requests}) == 3


async def test_what_fails_for_a_day_is_given_up_and_logged(serve, hook, make_target, states, caplog):
    async def answer(_):
        return web.Response(status=500, text="oh no")

    target = await make_target(answer)
    client = await serve(hook(target))
    with caplog.at_level(logging.ERROR):
        run = await finish(client)
        (row,) = await until(lambda: [row for row in states() if row["settled"]])
    assert (row["attempts"], row["delivered"], row["status"]) == (len(retries.DELAYS) + 1, False, 500)
    assert len(target.requests) == len(retries.DELAYS) + 1
    (said,) = await until(lambda: [text for text in caplog.messages if "given up" in text])
    assert "webhook 127.0.0.1: run.finished" in said and said.endswith("500: oh no") and run not in said
    assert "secret" not in said


async def test_a_target_that_is_gone_is_asked_once(serve, hook, make_target, states):
    async def answer(_):
        return web.Response(status=410)

    target = await make_target(answer)
    await finish(await serve(hook(target)))
    await until(lambda: states()[0]["settled"])
    assert (len(target.requests), states()[0]["delivered"]) == (1, False)


async def test_a_target_that_hangs_holds_up_no_other_and_no_connection(serve, hook, target, make_target):
    async def hang(_):
        await asyncio.sleep(60)

    slow = await make_target(hang)
    client = await serve(hook(slow, name="slow"), hook(target, name="good"))
    for number in range(5):
        await finish(client, f"run {number}")
    await target.until(5)
    await slow.until(1)
    assert slow.most_at_once == 1 and len(slow.requests) == 1
    assert [body["data"]["run"]["name"] for body in target.bodies] == [f"run {number}" for number in range(5)]
    pool = client.app[SERVICES].pool
    await until(lambda: pool.in_use == 0)  # the request to `slow` goes on


async def test_one_of_several_servers_delivers_and_another_one_takes_over(serve, hook, target, states):
    one, other = await serve(hook(target)), await serve(hook(target))
    for number in range(10):
        await finish((one, other)[number % 2], f"run {number}")
    await target.until(10)
    await until(lambda: all(row["delivered"] for row in states()))
    assert len(target.requests) == 10 and target.most_at_once == 1
    for client in (one, other):
        await client.close()
        if client is one:
            await finish(other, "after")
            await target.until(11)


async def test_the_lease_of_a_dead_server_ends(serve, hook, target, rows):
    hold = "INSERT INTO webhook_states (name, holder, until) VALUES ('worker', %s, now() + %s * interval '1 s')"
    rows(hold, uuid.uuid4(), 1.5)
    client = await serve(hook(target))
    await finish(client)
    await asyncio.sleep(0.3)
    assert target.requests == []
    await target.until(1)


async def test_a_delivery_whose_outcome_could_not_be_stored_is_sent_again(serve, hook, target, states, monkeypatch):
    monkeypatch.setattr("server.background._FIRST_PAUSE", 0.01)
    client = await serve(hook(target))
    pool = client.app[SERVICES].pool
    execute, failed = pool.execute, []

    async def away_once(query, *arguments):
        if "attempts + 1" in query and not failed:
            failed.append(query)
            raise ConnectionRefusedError("the database is away")
        return await execute(query, *arguments)

    monkeypatch.setattr(pool, "execute", away_once)
    await finish(client)
    await until(lambda: states()[0]["delivered"])
    assert failed and len(target.requests) == 2 and len(set(target.ids)) == 1


async def test_a_request_in_progress_is_sent_again_after_a_stop(serve, hook, make_target, states):
    async def answer(_):
        if len(target.requests) == 1:
            await asyncio.sleep(60)
        return web.Response()

    target = await make_target(answer)
    client = await serve(hook(target))
    await finish(client)
    await target.until(1)
    await client.close()
    assert states()[0] == {**states()[0], "attempts": 0, "settled": False}
    await serve(hook(target))
    await until(lambda: states()[0]["delivered"])
    assert len(set(target.ids)) == 1


async def test_an_event_whose_transaction_fails_is_not_sent(serve, hook, target, states):
    client = await serve(hook(target))
    run = (await (await client.post(BASE, json={"name": "x"})).json())["id"]
    large = {str(number): "x" * 9000 for number in range(9)}
    reply = await client.patch(f"{BASE}/{run}", json={"status": "Passed", "metadata": large})
    assert reply.status == 422
    await asyncio.sleep(0.1)
    assert target.requests == [] and states() == []


async def test_only_servers_with_webhooks_have_the_task(serve, hook, target):
    def tasks():
        return sum(task.get_name() == "delivery of webhooks" for task in asyncio.all_tasks())

    await serve()
    assert tasks() == 0
    await serve(hook(target))
    assert tasks() == 1


async def test_metrics_count_attempts_and_what_waits(serve, hook, make_target):
    async def answer(_):
        return web.Response(status=200 if ready else 500)

    ready = False
    target = await make_target(answer)
    client = await serve(hook(target, name="metrics"))
    await finish(client)

    async def shown():
        lines = (await (await client.get("/metrics")).text()).splitlines()
        return {line.partition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if '"metrics"' in line}

    async def until_shown(name, value):
        async with asyncio.timeout(20):
            while (await shown()).get(name) != value:
                await asyncio.sleep(0.05)

    attempts = 'reportd_webhook_attempts_total{outcome="%s",webhook="metrics"}'
    await until_shown('reportd_webhook_waiting{webhook="metrics"}', 1)
    await target.until(2)
    ready = True
    await until_shown('reportd_webhook_waiting{webhook="metrics"}', 0)
    assert (await shown())[attempts % "delivered"] == 1 and (await shown())[attempts % "failed"] >= 1


async def test_a_sweep_removes_what_is_old_and_gives_up_what_nobody_sends(config, hook, rows, states):
    pool = await open_pool(config.database)
    made = [hook("https://a.example/", name="a"), hook("https://b.example/", name="b")]
    async with pool.transaction() as connection:
        await outbox.add(connection, made, ping("x"))
        await outbox.add(connection, made[1:], ping("x"))
    old = lowest_id(1_700_000_000.0)
    rows("UPDATE webhook_deliveries SET id = %s, due_at = NULL WHERE webhook = 'a'", old)
    await outbox.sweep(pool, [])
    assert [(row["webhook"], row["settled"]) for row in states()] == [("b", False)] * 2  # of today
    rows("UPDATE webhook_deliveries SET created_at = created_at - interval '3 days'")
    await outbox.sweep(pool, made)
    assert [row["settled"] for row in states()] == [False, False]
    await outbox.sweep(pool, made[:1])
    assert [row["settled"] for row in states()] == [True, True]
    assert "not configured" in states()[0]["answer"]
    await pool.close(5)


async def test_the_lease_lasts_longer_than_the_time_until_it_is_renewed():
    """With room for a slow database: otherwise two servers would deliver at once."""
    assert worker._LEASE_SECONDS >= 2 * 10 + 10
