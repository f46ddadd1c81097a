"""Which screenshot a step shows, and which step an artifact belongs to: after any history, what the rule says of the
rows that are there. And the lock that keeps two writers of one test case apart."""

import asyncio
import random
from dataclasses import dataclass

import asyncpg
import orjson
import pytest

from server.api.steps import NewStep
from server.database import migrate
from server.database.queries import SQL
from server.errors import CaseNotFound, StepsExist
from server.ids import new_id, new_ids
from server.reports import artifacts, steps, suite_runs, test_cases

RANKS = {"error": 0, "after": 1, None: 2, "before": 3, "checkpoint": 3}


@pytest.fixture
async def connect(dsn):
    """await connect(): one more connection to this test's database, as the pool makes them."""
    opened = []

    async def made():
        connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
        codec = {"encoder": bytes, "decoder": orjson.Fragment, "format": "binary"}
        await connection.set_type_codec("json", schema="pg_catalog", **codec)
        opened.append(connection)
        return connection

    yield made
    for connection in opened:
        await connection.close()


@pytest.fixture
def new_case(rows):
    """new_case(): the id of a test case without anything in it."""
    project = rows("SELECT id FROM projects")[0]["id"]
    run = rows("INSERT INTO suite_runs (project_id, name) VALUES (%s, 'x') RETURNING id", project)[0]["id"]
    insert = (
        "INSERT INTO test_case_results (suite_run_id, project_id, name, test_id) VALUES (%s, %s, 'x', 'x') RETURNING id"
    )
    return lambda: rows(insert, run, project)[0]["id"]


# --- what the rule says, in Python ----------------------------------------------------------------------------------


def base_name(path):
    return None if path is None else path.replace("\\", "/").rpartition("/")[2]


def best(step, shots):
    """The best of some artifacts for a step; None without any."""
    named = [a for a in shots if a["file_name"] == base_name(step["screenshot_path"])]
    chosen = named or [a for a in shots if a["step_number"] == step["step_number"]]
    return min(chosen, key=lambda a: (RANKS[a["artifact_category"]], a["id"]))["id"] if chosen else None


def expected(all_steps, all_artifacts):
    """The screenshot of each step and the step of each artifact."""
    shown = {}
    for step in all_steps:
        shots = [a for a in all_artifacts if a["artifact_type"] == "screenshot"]
        shots = [a for a in shots if a["iteration_number"] == step["iteration_number"]]
        shown[step["id"]] = step["screenshot_artifact_id"] if step["screenshot_pinned"] else best(step, shots)
    places = {(step["iteration_number"], step["step_number"]): step["id"] for step in all_steps}
    owners = {}
    for artifact in all_artifacts:
        showing = sorted(step for step, shot in shown.items() if shot == artifact["id"])
        by_number = places.get((artifact["iteration_number"], artifact["step_number"]))
        owners[artifact["id"]] = by_number or (showing[0] if showing else None)
    return shown, owners


# --- histories ------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """Writes at random to a small test case, each as the server does it, so that all of them meet."""

    connection: object
    case: object
    draw: random.Random

    async def steps(self):
        return await self.connection.fetch("SELECT * FROM test_step_results WHERE test_case_result_id = $1", self.case)

    async def artifacts(self):
        return await self.connection.fetch("SELECT * FROM test_artifacts WHERE test_case_result_id = $1", self.case)

    def step(self, iteration, number):
        path = self.draw.choice([None, None, f"a/b/{self.draw.randint(1, 5)}.png", f"x\\{self.draw.randint(1, 5)}.png"])
        return NewStep(number, "click", iteration, screenshot_path=path)

    def places(self):
        return {(self.draw.randint(1, 2), self.draw.randint(1, 5)) for _ in range(self.draw.randint(1, 4))}

    async def insert_steps(self):
        taken = {(step["iteration_number"], step["step_number"]) for step in await self.steps()}
        await steps.insert_many(
            self.connection, self.case, None, [self.step(*place) for place in self.places() - taken]
        )

    async def replace_steps(self):
        places = sorted(self.places())
        new, prune = [self.step(*place) for place in places], self.draw.random() < 0.5
        call = steps.Actor("token", None, "x", None, None)
        async with self.connection.transaction():
            await steps.replace_many(self.connection, self.case, None, new, places, prune, call)

    async def insert_artifacts(self):
        ids = new_ids(0, self.draw.randint(1, 3))
        async with self.connection.transaction():
            await test_cases.touch(self.connection, self.case, None)
            inserted = await self.connection.fetch(
                SQL.artifacts.insert_many, self.case, orjson.dumps([self.artifact(artifact) for artifact in ids])
            )
            owned = {row["id"] for row in inserted if row["step_result_id"] is not None}
            await steps.link(self.connection, self.case, [], ids, owned)

    def artifact(self, artifact_id):
        number = self.draw.choice([None, 1, 2, 3, 4, 5])
        return {
            "id": str(artifact_id),
            "artifact_type": self.draw.choice(["screenshot", "screenshot", "screenshot", "log"]),
            "artifact_category": self.draw.choice([None, "error", "after", "before", "checkpoint"]),
            "step_number": number,
            "iteration_number": self.draw.randint(1, 2),
            "file_name": f"{self.draw.randint(1, 5)}.png",
            "file_size": 1,
            "mime_type": "image/png",
            "checksum": "",
            "storage_path": str(artifact_id),
            "dedupe_key": artifact_id.hex,
        }

    async def delete_artifact(self):
        if found := await self.artifacts():
            async with self.connection.transaction():
                actor = artifacts.Actor("token", None, "x", None, None)
                await artifacts.delete(self.connection, self.draw.choice(found)["id"], None, actor)

    async def pin(self):
        if found := await self.steps():
            shot = self.draw.choice([None, *(artifact["id"] for artifact in await self.artifacts())])
            async with self.connection.transaction():
                await steps.pin(self.connection, self.draw.choice(found)["id"], None, shot)


@pytest.mark.parametrize("seed", range(8))
async def test_after_any_history_the_links_are_those_of_the_rule(connect, new_case, seed):
    connection = await connect()
    for number in range(12):
        draw = random.Random(seed * 1000 + number)
        history = History(connection, new_case(), draw)
        writes = [history.insert_steps, history.insert_artifacts, history.insert_artifacts, history.replace_steps]
        writes += [history.delete_artifact, history.pin]
        for _ in range(9):
            write = draw.choice(writes)
            await write()
            found = await history.steps(), await history.artifacts()
            shown = {step["id"]: step["screenshot_artifact_id"] for step in found[0]}
            owners = {artifact["id"]: artifact["step_result_id"] for artifact in found[1]}
            assert (shown, owners) == expected(*found), f"seed {seed}, history {number}, {write.__name__}"


# --- two writers at once --------------------------------------------------------------------------------------------


def numbered(first):
    return [NewStep(first + i, "click") for i in range(3)]


async def insert(connection, case, new):
    """As a POST does it."""
    ids = await steps.insert_at_once(connection, case, None, new, [1])
    if ids is None:
        async with connection.transaction():
            ids = await steps.insert_many(connection, case, None, new, [1])
    return ids


async def test_of_two_posts_for_one_iteration_one_wins(connect, new_case, rows):
    """Disjoint numbers, so that no constraint tells them apart."""
    one, other = await connect(), await connect()
    for _ in range(150):
        case = new_case()
        outcomes = await asyncio.gather(
            insert(one, case, numbered(1)),
            insert(other, case, numbered(11)),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["StepsExist", "list"]
        count = rows("SELECT count(*) AS n FROM test_step_results WHERE test_case_result_id = %s", case)
        assert count == [{"n": 3}]


@pytest.mark.parametrize("writer", ["insert_many", "replace_many"])
async def test_a_post_that_has_waited_for_a_writer_sees_its_steps(connect, new_case, writer):
    one, other = await connect(), await connect()
    case = new_case()
    held = one.transaction()
    await held.start()
    if writer == "insert_many":
        await steps.insert_many(one, case, None, numbered(1), [1])
    else:
        actor = steps.Actor("token", None, "x", None, None)
        await steps.replace_many(one, case, None, numbered(1), [(1, 1), (1, 2), (1, 3)], False, actor)
    waiting = asyncio.create_task(insert(other, case, numbered(11)))
    await until_blocked(one)
    await held.commit()
    with pytest.raises(StepsExist):
        await waiting


async def test_a_server_of_the_version_before_is_a_writer_like_any_other(connect, new_case, dsn):
    """It writes by a stored function, while servers are replaced one after the other (migration 0016)."""
    await asyncio.to_thread(migrate.rollback, dsn, 1)  # the one that drops those functions
    one, other = await connect(), await connect()
    case = new_case()
    held = one.transaction()
    await held.start()
    nothing = ", ".join(["ARRAY[NULL]::text[]"] * 10)
    await one.execute(
        "SELECT insert_steps($1, NULL, true, $2, ARRAY[1], ARRAY[1], ARRAY['click'], ARRAY[NULL]::text[], "
        "ARRAY[NULL]::text[], ARRAY['Passed'], ARRAY[NULL]::int[], " + nothing + ", "
        "ARRAY[NULL]::timestamptz[], ARRAY[NULL]::timestamptz[])",
        case,
        [new_id(0)],
    )
    waiting = asyncio.create_task(insert(other, case, numbered(11)))
    await until_blocked(one)
    await held.commit()
    with pytest.raises(StepsExist):
        await waiting


async def test_steps_that_have_waited_for_an_upload_show_its_screenshots(connect, new_case, rows):
    one, other = await connect(), await connect()
    case = new_case()
    history = History(one, case, random.Random(1))
    held = one.transaction()
    await held.start()
    (row,) = await one.fetch(SQL.artifacts.lock, case, None, [], [])
    assert not row["has_steps"]
    shot = {**history.artifact(new_id(0)), "artifact_type": "screenshot", "step_number": 1, "iteration_number": 1}
    await one.fetch(SQL.artifacts.insert_many, case, orjson.dumps([shot]))
    waiting = asyncio.create_task(insert(other, case, numbered(1)))
    await until_blocked(one)
    await held.commit()
    first, *_ = await waiting
    found = rows("SELECT screenshot_artifact_id::text AS shown FROM test_step_results WHERE id = %s", first)
    assert found == [{"shown": shot["id"]}]
    assert rows("SELECT step_result_id FROM test_artifacts") == [{"step_result_id": first}]


async def test_an_upload_that_has_waited_for_steps_knows_of_them(connect, new_case):
    one, other = await connect(), await connect()
    case = new_case()
    held = one.transaction()
    await held.start()
    await steps.insert_many(one, case, None, numbered(1), [1])
    waiting = asyncio.create_task(artifacts._lock(other, case, None, [], []))
    await until_blocked(one)
    await held.commit()
    assert (await waiting)[-1]


@pytest.mark.parametrize("writer", ["steps", "artifacts"])
async def test_a_writer_that_has_waited_does_not_then_wait_for_a_deletion(connect, new_case, rows, writer):
    """The deletion has the run and waits for the test case: a writer that now asked for the run would be a deadlock."""
    one, other, third = await connect(), await connect(), await connect()
    case = new_case()
    run = rows("SELECT suite_run_id FROM test_case_results WHERE id = %s", case)[0]["suite_run_id"]

    async def write():
        async with other.transaction():
            if writer == "steps":
                return await steps.insert_many(other, case, None, numbered(1), [1])
            return await artifacts._lock(other, case, None, [], [])

    async def delete():
        async with third.transaction():
            actor = steps.Actor("token", None, "x", None, None)
            return await suite_runs.delete(third, run, None, actor)

    held = one.transaction()
    await held.start()
    await test_cases.touch(one, case, None)
    writing = asyncio.create_task(write())
    await until_blocked(one)
    deleting = asyncio.create_task(delete())
    await until_blocked(one, 2)
    await held.commit()
    assert await writing
    await deleting
    assert rows("SELECT FROM test_case_results") == []


async def test_steps_of_no_test_case_are_refused(connect, new_case):
    connection = await connect()
    for scope in (None, new_id(0)):
        case = new_id(0) if scope is None else new_case()
        assert await steps.insert_at_once(connection, case, scope, numbered(1), [1]) is None
        with pytest.raises(CaseNotFound):
            await steps.insert_many(connection, case, scope, numbered(1), [1])


async def until_blocked(connection, sessions=1):
    """Until so many sessions wait for a lock. Within the transaction that they wait for, so on its connection."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    for _ in range(500):
        if await connection.fetchval(waiting) >= sessions:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nothing waits")
