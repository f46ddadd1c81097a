"""Links between steps and artifacts: after any sequence of writes they must match a reference implementation of the
rule. Also the row lock that serializes two writers of one test case."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from unicodedata import normalize
from urllib.parse import unquote
from uuid import UUID

import pytest

from server.api.steps import StepPatch
from server.bodies.steps import NewStep
from server.database.pool import _SESSION
from server.database.queries import SQL, data_folder
from server.errors import CaseNotFound, StepsExist
from server.ids import new_id, new_ids
from server.reports import artifacts, linking, saving, steps, suite_runs, test_cases
from server.uploads.names import link_name

RANKS = {"error": 0, "after": 1, None: 2, "before": 3, "checkpoint": 3}


@pytest.fixture
def new_case(rows):
    """new_case(): the id of a new, empty test case."""
    project = rows("SELECT id FROM projects")[0]["id"]
    run = rows("INSERT INTO suite_runs (project_id, name) VALUES (%s, 'x') RETURNING id", project)[0]["id"]
    insert = (
        "INSERT INTO test_case_results (suite_run_id, project_id, name, test_id) VALUES (%s, %s, 'x', 'x') RETURNING id"
    )
    return lambda: rows(insert, run, project)[0]["id"]


# --- the rule, in Python --------------------------------------------------------------------------------------------


def base_name(path):
    """In Unicode form C, and without percent-encoding if that is UTF-8."""
    if path is None:
        return None
    with suppress(UnicodeDecodeError):
        path = unquote(path, errors="strict")
    return normalize("NFC", path).replace("\\", "/").rpartition("/")[2]


NAMES = ["1.png", "2.png", "ü.png", "u\u0308.png", "%C3%BC.png", "u%CC%88.png", "a b.png", "a%20b.png", "%FF.png"]


def best(step, shots):
    """The id of the screenshot that the step must show, of these artifacts; None without a match."""
    named = [a for a in shots if base_name(a["file_name"]) == base_name(step["screenshot_path"])]
    chosen = named or [a for a in shots if a["step_number"] == step["step_number"]]
    return min(chosen, key=lambda a: (RANKS[a["artifact_category"]], a["id"]))["id"] if chosen else None


def expected(all_steps, all_artifacts):
    """Two dicts: the screenshot of each step, and the step of each artifact."""
    shown = {}
    for step in all_steps:
        shots = [a for a in all_artifacts if a["artifact_type"] == "screenshot"]
        shots = [a for a in shots if a["iteration_number"] == step["iteration_number"]]
        shown[step["id"]] = step["screenshot_artifact_id"] if step["screenshot_pinned"] else best(step, shots)
    by_position = {(step["iteration_number"], step["step_number"]): step["id"] for step in all_steps}
    owners = {}
    for artifact in all_artifacts:
        showing = sorted(step for step, shot in shown.items() if shot == artifact["id"])
        by_number = by_position.get((artifact["iteration_number"], artifact["step_number"]))
        owners[artifact["id"]] = by_number or (showing[0] if showing else None)
    return shown, owners


# --- histories ------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """Random writes to one test case, done as the server does them. Numbers and names are few, so that they collide."""

    connection: object
    case: object
    draw: random.Random

    async def steps(self):
        return await self.connection.fetch("SELECT * FROM test_step_results WHERE test_case_result_id = $1", self.case)

    async def artifacts(self):
        return await self.connection.fetch("SELECT * FROM test_artifacts WHERE test_case_result_id = $1", self.case)

    def step(self, iteration, number):
        path = self.draw.choice([None, "a/b/", "x\\", "a%2Fb%5C", ""])
        path = None if path is None else path + self.draw.choice(NAMES)
        return NewStep(number, "click", iteration, screenshot_path=path)

    def positions(self):
        return {(self.draw.randint(1, 2), self.draw.randint(1, 5)) for _ in range(self.draw.randint(1, 4))}

    async def insert_steps(self):
        taken = {(step["iteration_number"], step["step_number"]) for step in await self.steps()}
        await steps.insert_many(
            self.connection, self.case, None, [self.step(*position) for position in self.positions() - taken]
        )

    async def replace_steps(self):
        positions = sorted(self.positions())
        new, prune = [self.step(*position) for position in positions], self.draw.random() < 0.5
        actor = steps.Actor("token", None, "x", None, None)
        async with self.connection.transaction():
            await steps.replace_many(self.connection, self.case, None, new, positions, prune, actor)

    async def insert_artifacts(self):
        ids = new_ids(0, self.draw.randint(1, 3))
        async with self.connection.transaction():
            await test_cases.touch(self.connection, self.case, None)
            await self.store([self.artifact(artifact) for artifact in ids])

    async def store(self, new):
        rows = [saving._Row(**fields) for fields in new]
        numbers = [row.step_number for row in rows if row.step_number is not None]
        found = await self.connection.fetch(SQL.steps.matching, [self.case], numbers, linking.names_of(rows))
        await saving._insert(self.connection, rows, [linking.Step(*row) for row in found])

    def artifact(self, artifact_id):
        number, name = self.draw.choice([None, 1, 2, 3, 4, 5]), self.draw.choice(NAMES)
        return {
            "id": artifact_id,
            "test_case_result_id": self.case,
            "artifact_type": self.draw.choice(["screenshot", "screenshot", "screenshot", "log"]),
            "artifact_category": self.draw.choice([None, "error", "after", "before", "checkpoint"]),
            "step_number": number,
            "iteration_number": self.draw.randint(1, 2),
            "file_name": name,
            "link_name": link_name(name),
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
                await self.patch(self.draw.choice(found)["id"], screenshot_artifact_id=shot and UUID(shot.hex))

    async def renumber(self):
        """Moves a step to a free number, or gives it another screenshot_path."""
        if found := await self.steps():
            taken = {(step["iteration_number"], step["step_number"]) for step in found}
            iteration, number = self.draw.choice(
                [(a, b) for a in (1, 2) for b in range(1, 6) if (a, b) not in taken] or [(3, 1)]
            )
            path = self.draw.choice([None, f"{self.draw.randint(1, 5)}.png"])
            fields = self.draw.choice(
                [{"screenshot_path": path}, {"iteration_number": iteration, "step_number": number}]
            )
            async with self.connection.transaction():
                await self.patch(self.draw.choice(found)["id"], **fields)

    async def patch(self, step_id, **fields):
        await steps.update(self.connection, step_id, None, StepPatch(**fields), lambda before: None)


@pytest.mark.parametrize("seed", range(8))
async def test_links_match_the_rule_after_any_sequence_of_writes(connect, new_case, seed):
    connection = await connect()
    for number in range(12):
        draw = random.Random(seed * 1000 + number)
        history = History(connection, new_case(), draw)
        writes = [history.insert_steps, history.insert_artifacts, history.insert_artifacts, history.replace_steps]
        writes += [history.delete_artifact, history.pin, history.renumber]
        for _ in range(9):
            write = draw.choice(writes)
            await write()
            found = await history.steps(), await history.artifacts()
            shown = {step["id"]: step["screenshot_artifact_id"] for step in found[0]}
            owners = {artifact["id"]: artifact["step_result_id"] for artifact in found[1]}
            assert (shown, owners) == expected(*found), f"seed {seed}, history {number}, {write.__name__}"


async def test_a_screenshot_of_10000_steps_costs_what_any_update_of_them_costs(connect, new_case, rows):
    """All steps have the same screenshot_path. A search in an array for each of them takes four times as long."""
    connection, case = await connect(), new_case()
    await connection.execute(_SESSION)
    insert = "INSERT INTO test_step_results (test_case_result_id, step_number, step_type) SELECT %s, n, 'x'"
    rows(f"{insert} FROM generate_series(1, 10000) AS n", case)
    ids = [step["id"] for step in rows("SELECT id FROM test_step_results")]
    history, shots = History(connection, case, random.Random(1)), new_ids(0, 2)
    await history.store([{**history.artifact(shot), "artifact_type": "log", "step_number": None} for shot in shots])
    taken = {"all": [], "any": []}
    for _ in range(5):
        for kind, query, arguments in (
            ("all", SQL.artifacts.insert_many, (b"[]", ids, [shots[0]] * len(ids))),
            ("any", "UPDATE test_step_results SET screenshot_artifact_id = $2 WHERE id = ANY($1)", (ids, shots[1])),
        ):
            begun = time.monotonic()
            await connection.execute(query, *arguments)
            taken[kind].append(time.monotonic() - begun)
    assert min(taken["all"]) < 2.5 * min(taken["any"]), taken


async def test_the_link_name_of_a_former_path_is_ignored(connect, new_case, rows):
    """A server of the previous version replaces a step without knowing the column."""
    connection, case = await connect(), new_case()
    await steps.insert_many(connection, case, None, [NewStep(1, "click", screenshot_path="a%20b.png")])
    history = History(connection, case, random.Random(1))
    for name in ("a b.png", "c.png"):
        shot = {**history.artifact(new_id(0)), "artifact_type": "screenshot", "step_number": None}
        shot |= {"iteration_number": 1, "file_name": name, "link_name": None}
        await history.store([shot])
    (step,) = rows("SELECT id FROM test_step_results")
    for path, expected in (("a%20b.png", "a b.png"), ("x/c.png", "c.png"), (None, None)):
        rows("UPDATE test_step_results SET screenshot_path = %s", path)
        await steps.link(connection, case, [step["id"]], [])
        found = rows(
            "SELECT a.file_name FROM test_step_results s LEFT JOIN test_artifacts a ON a.id = s.screenshot_artifact_id"
        )
        assert found == [{"file_name": expected}]


# --- two writers at once --------------------------------------------------------------------------------------------


def numbered(first):
    return [NewStep(first + i, "click") for i in range(3)]


async def insert(connection, case, new):
    """Inserts steps the way a POST does."""
    ids = await steps.insert_at_once(connection, case, None, new, [1])
    if ids is None:
        async with connection.transaction():
            ids = await steps.insert_many(connection, case, None, new, [1])
    return ids


async def test_only_one_of_two_concurrent_posts_for_one_iteration_succeeds(connect, new_case, rows):
    """The step numbers are disjoint, so that no unique constraint decides."""
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
async def test_a_post_sees_the_steps_of_the_writer_that_it_waited_for(connect, new_case, writer):
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


async def test_a_post_sees_the_steps_of_a_server_of_the_previous_version(connect, new_case):
    """During a rolling upgrade, the previous version writes through stored functions (see migration 0016)."""
    functions = data_folder("migrations") / "0017_drop_stored_functions.rollback.sql"
    one, other = await connect(), await connect()
    case = new_case()
    held = one.transaction()
    await held.start()
    await one.execute(functions.read_text("utf-8"))
    null_columns = ", ".join(["ARRAY[NULL]::text[]"] * 10)
    await one.execute(
        "SELECT insert_steps($1, NULL, true, $2, ARRAY[1], ARRAY[1], ARRAY['click'], ARRAY[NULL]::text[], "
        "ARRAY[NULL]::text[], ARRAY['Passed'], ARRAY[NULL]::int[], " + null_columns + ", "
        "ARRAY[NULL]::timestamptz[], ARRAY[NULL]::timestamptz[])",
        case,
        [new_id(0)],
    )
    waiting = asyncio.create_task(insert(other, case, numbered(11)))
    await until_blocked(one)
    await held.commit()
    with pytest.raises(StepsExist):
        await waiting


async def test_steps_show_the_screenshots_of_the_upload_that_they_waited_for(connect, new_case, rows):
    one, other = await connect(), await connect()
    case = new_case()
    history = History(one, case, random.Random(1))
    held = one.transaction()
    await held.start()
    assert await one.fetch(SQL.artifacts.lock, case, None, [], [], [], [])
    shot = {**history.artifact(new_id(0)), "artifact_type": "screenshot", "step_number": 1, "iteration_number": 1}
    await history.store([shot])
    waiting = asyncio.create_task(insert(other, case, numbered(1)))
    await until_blocked(one)
    await held.commit()
    first, *_ = await waiting
    found = rows("SELECT screenshot_artifact_id::text AS shown FROM test_step_results WHERE id = %s", first)
    assert found == [{"shown": str(shot["id"])}]
    assert rows("SELECT step_result_id FROM test_artifacts") == [{"step_result_id": first}]


async def test_an_upload_sees_the_steps_that_it_waited_for(connect, new_case):
    one, other = await connect(), await connect()
    case = new_case()
    held = one.transaction()
    await held.start()
    (first, *_) = await steps.insert_many(one, case, None, numbered(1), [1])
    fields, file = SimpleNamespace(step_number=1), SimpleNamespace(file_name="x.png")
    upload = SimpleNamespace(dedupe_key=b"", fields=fields, file=file)
    waiting = asyncio.create_task(saving._lock(other, case, None, [upload], []))
    await until_blocked(one)
    await held.commit()
    assert [row["id"] for row in await waiting] == [first]


@pytest.mark.parametrize("writer", ["steps", "artifacts"])
async def test_a_writer_that_waited_for_a_test_case_does_not_deadlock_with_a_deletion(connect, rows, writer):
    """The deletion locks the run and waits for the test case. A writer that then locked the run would deadlock.

    Either of the two may get the test case first. Ten rounds: without the fix, one in two deadlocks.
    """
    one, other, third = await connect(), await connect(), await connect()

    async def write(case):
        async with other.transaction():
            if writer == "steps":
                await steps.insert_many(other, case, None, numbered(1), [1])
            else:
                await saving._lock(other, case, None, [], [])

    async def delete(run):
        async with third.transaction():
            await suite_runs.delete(third, run, None, steps.Actor("token", None, "x", None, None))

    for _ in range(10):
        insert = "INSERT INTO suite_runs (project_id, name) SELECT id, 'x' FROM projects RETURNING id"
        run = rows(insert)[0]["id"]
        insert = (
            "INSERT INTO test_case_results (suite_run_id, project_id, name, test_id)"
            " SELECT id, project_id, 'x', 'x' FROM suite_runs WHERE id = %s RETURNING id"
        )
        case = rows(insert, run)[0]["id"]
        held = one.transaction()
        await held.start()
        await test_cases.touch(one, case, None)
        writing = asyncio.create_task(write(case))
        await until_blocked(one)
        deleting = asyncio.create_task(delete(run))
        await until_blocked(one, 2)
        await held.commit()
        written, deleted = await asyncio.gather(writing, deleting, return_exceptions=True)
        assert deleted is None
        assert written is None or isinstance(written, CaseNotFound), repr(written)
        assert rows("SELECT FROM test_case_results") == []


async def test_steps_for_an_unknown_test_case_are_refused(connect, new_case):
    connection = await connect()
    for scope in (None, new_id(0)):
        case = new_id(0) if scope is None else new_case()
        assert await steps.insert_at_once(connection, case, scope, numbered(1), [1]) is None
        with pytest.raises(CaseNotFound):
            await steps.insert_many(connection, case, scope, numbered(1), [1])


async def until_blocked(connection, sessions=1):
    """Waits until `sessions` sessions are blocked on a lock. `connection` may be the one that holds it."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    for _ in range(500):
        if await connection.fetchval(waiting) >= sessions:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not {sessions} sessions are blocked on a lock within 5 seconds")
