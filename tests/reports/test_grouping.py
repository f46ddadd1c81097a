"""The error of a failed result: after any sequence of writes it must be the one of the rule, and be known."""

import asyncio
import random
from uuid import UUID

import pytest

from server.api.steps import StepPatch
from server.api.test_cases import TestCasePatch
from server.bodies.steps import NewStep
from server.bodies.test_cases import NewTestCase
from server.compare.failures import Failed, group_of
from server.reports import grouping, steps, suite_runs, test_cases
from tests.reports.test_linking import until_blocked

ACTOR = steps.Actor("token", None, "x", None, None)
MESSAGES = [None, "", "order 4711 is missing", "order 12 is missing", "no button", "status 404"]
STACKS = [None, "  at pay (/ci/shop/pay.ts:1:2)", "  at sell (/ci/shop/sell.ts:1:2)"]
STATUSES = ["Failed", "Failed", "Passed", "Pending"]


@pytest.fixture
def new_run(rows):
    """new_run(): the id of a new run."""
    return lambda: rows("INSERT INTO suite_runs (project_id, name) SELECT id, 'x' FROM projects RETURNING id")[0]["id"]


@pytest.fixture
def stored(rows):
    """stored(case): the fingerprint of a result and that of the rule, both as hex; None without an error."""

    def of(case):
        (row,) = rows("SELECT * FROM test_case_results WHERE id = %s", case)
        failed = rows(
            "SELECT * FROM test_step_results WHERE test_case_result_id = %s AND status = 'Failed'"
            " AND error_message <> '' ORDER BY iteration_number, step_number",
            case,
        )
        step = Failed(failed[0]["error_type"], failed[0]["error_message"]) if failed else None
        own = Failed(row["error_type"], row["error_message"], row["stack_trace"])
        group = group_of(own, step) if row["status"] == "Failed" else None
        return row["error_fingerprint"] and row["error_fingerprint"].hex(), group and group.fingerprint.hex()

    return of


class History:
    """Random writes to one result, done as the server does them."""

    def __init__(self, connection, draw):
        self.connection, self.draw = connection, draw

    def failure(self):
        pick = self.draw.choice
        return {"status": pick(STATUSES), "error_type": pick([None, "E", "F"]), "error_message": pick(MESSAGES)}

    async def begin(self, run):
        new = NewTestCase("pays", **self.failure(), stack_trace=self.draw.choice(STACKS))
        async with self.connection.transaction():
            (case,) = await test_cases.insert_many(self.connection, run, None, [new])
        self.case = case.id

    def step(self, iteration, number):
        return NewStep(number, "click", iteration, **self.failure())

    async def found(self):
        return await self.connection.fetch("SELECT * FROM test_step_results WHERE test_case_result_id = $1", self.case)

    async def insert_steps(self):
        taken = {(step["iteration_number"], step["step_number"]) for step in await self.found()}
        free = sorted({(a, b) for a in (1, 2) for b in range(1, 6)} - taken)
        new = [self.step(*each) for each in self.draw.sample(free, min(len(free), self.draw.randint(1, 3)))]
        if await steps.insert_at_once(self.connection, self.case, None, new) is None:
            async with self.connection.transaction():
                await steps.insert_many(self.connection, self.case, None, new)

    async def replace_steps(self):
        at = sorted({(self.draw.randint(1, 2), self.draw.randint(1, 5)) for _ in range(self.draw.randint(1, 4))})
        new, prune = [self.step(*each) for each in at], self.draw.random() < 0.5
        async with self.connection.transaction():
            await steps.replace_many(self.connection, self.case, None, new, at, prune, ACTOR)

    def some_fields(self):
        fields = self.failure()
        return {name: fields[name] for name in self.draw.sample(sorted(fields), self.draw.randint(1, 3))}

    async def patch_step(self):
        if found := await self.found():
            step, taken = self.draw.choice(found), {(s["iteration_number"], s["step_number"]) for s in found}
            fields = self.some_fields()
            if self.draw.random() < 0.3 and (step["iteration_number"], 9) not in taken:
                fields = {"step_number": 9}
            async with self.connection.transaction():
                await steps.update(self.connection, step["id"], None, StepPatch(**fields), lambda before: None)

    async def patch_result(self):
        fields = self.draw.choice([self.some_fields(), {"name": "sells"}, {"stack_trace": self.draw.choice(STACKS)}])
        async with self.connection.transaction():
            await test_cases.update(self.connection, self.case, None, TestCasePatch(**fields))


@pytest.mark.parametrize("seed", range(6))
async def test_the_error_is_that_of_the_rule_after_any_sequence_of_writes(connect, new_run, stored, rows, seed):
    connection, run, met = await connect(), new_run(), set()
    for number in range(12):
        history = History(connection, random.Random(seed * 1000 + number))
        await history.begin(run)
        writes = [history.insert_steps, history.insert_steps, history.replace_steps]
        writes += [history.patch_step, history.patch_result, history.patch_result]
        for write in [history.begin, *history.draw.choices(writes, k=10)]:
            if write != history.begin:
                await write()
            found, expected = stored(history.case)
            assert found == expected, f"seed {seed}, history {number}, {write.__name__}"
            met.add(found)
    assert len(met) > 5
    unknown = "SELECT FROM test_case_results c WHERE error_fingerprint IS NOT NULL AND NOT EXISTS (SELECT FROM errors e"
    assert rows(f"{unknown} WHERE e.project_id = c.project_id AND e.fingerprint = c.error_fingerprint)") == []


async def test_a_known_error_costs_no_statement_more(connect, new_run):
    connection, run = await connect(), new_run()
    first = NewTestCase("x", status="Failed", error_message="asyncpg looks up types at first")
    await test_cases.insert_many(connection, run, None, [first])
    sent = []
    connection.add_query_logger(lambda record: sent.append(record.query))
    failed = {"status": "Failed", "error_message": "order 1 is missing"}

    async def statements(work):
        await asyncio.sleep(0)  # asyncpg calls the logger later
        sent.clear()
        await work
        await asyncio.sleep(0)
        return len(sent)

    def results(**fields):
        return test_cases.insert_many(connection, run, None, [NewTestCase("x", **fields)])

    passed = await statements(results(status="Passed"))
    assert await statements(results(**failed)) == passed + 1
    assert await statements(results(**failed)) == passed
    (case,) = await results(status="Failed")
    other = {**failed, "error_message": "no button"}
    assert await steps.insert_at_once(connection, case.id, None, [NewStep(1, "click", **other)]) is None
    await steps.insert_many(connection, case.id, None, [NewStep(1, "click", **other)])
    (case,) = await results(status="Failed")
    assert await statements(steps.insert_at_once(connection, case.id, None, [NewStep(1, "click", **other)])) == 1
    (case,) = await results(**failed)  # its own message decides, so an unknown one of a step does not matter
    new = [NewStep(1, "click", status="Failed", error_message="never seen before")]
    assert await steps.insert_at_once(connection, case.id, None, new)


@pytest.mark.parametrize("writer", ["insert", "replace", "patch_step", "patch_result", "regroup"])
async def test_a_writer_of_an_error_does_not_deadlock_with_a_deletion(connect, new_run, rows, writer):
    """See the test of that name in test_linking.py: here the result is failed, and its steps decide its error."""
    one, other, third = await connect(), await connect(), await connect()
    new = [NewStep(1, "click", status="Failed")]

    async def write(case):
        new[0].error_message = f"it is {random.choice('abcdefgh')}, then {random.choice('ijklm')}"
        if writer == "regroup":
            return await grouping.regroup(other, [case])
        async with other.transaction():
            if writer == "insert":
                await steps.insert_many(other, case, None, [NewStep(2, "click", status="Failed", error_message="x")])
            elif writer == "replace":
                await steps.replace_many(other, case, None, new, [(1, 1)], True, ACTOR)
            elif writer == "patch_step":
                (step,) = await other.fetch("SELECT id FROM test_step_results")
                await steps.update(other, step["id"], None, StepPatch(error_message="y"), lambda before: None)
            else:
                patch = TestCasePatch(error_message=random.choice(MESSAGES[2:]))
                await test_cases.update(other, case, None, patch)

    for _ in range(8):
        run = new_run()
        (case,) = await test_cases.insert_many(one, run, None, [NewTestCase("x", status="Failed")])
        await steps.replace_many(one, case.id, None, new, [(1, 1)], False, ACTOR)
        rows("UPDATE test_case_results SET error_fingerprint = 'old'")
        held = one.transaction()
        await held.start()
        await test_cases.touch(one, case.id, None)
        writing = asyncio.create_task(write(case.id))
        await until_blocked(one)
        deleting = asyncio.create_task(_delete(third, run))
        await until_blocked(one, 2)
        await held.commit()
        written, deleted = await asyncio.gather(writing, deleting, return_exceptions=True)
        assert deleted is None
        assert not isinstance(written, Exception) or type(written).__name__.endswith("NotFound"), repr(written)
        assert rows("SELECT FROM test_case_results") == []


async def _delete(connection, run):
    async with connection.transaction():
        await suite_runs.delete(connection, run, None, ACTOR)


async def test_two_writers_of_the_same_new_errors_wait_for_each_other_without_a_deadlock(connect, new_run, rows):
    one, other, run = await connect(), await connect(), new_run()

    async def write(connection, order):
        new = [NewTestCase("x", status="Failed", error_message=f"error {letter}") for letter in order]
        async with connection.transaction():
            await test_cases.insert_many(connection, run, None, new)

    for number in range(10):
        letters = [f"{letter}{'xyzuvwabcd'[number]}" for letter in "abcdefgh"]
        await asyncio.gather(write(one, letters), write(other, letters[::-1]))
    assert rows("SELECT count(*) AS n FROM errors") == [{"n": 80}]


async def test_regroup_repairs_what_older_servers_left(connect, new_run, stored, rows):
    connection, run = await connect(), new_run()
    new = [
        NewTestCase("own", status="Failed", error_message="order 7 is missing"),
        NewTestCase("step", status="Failed"),
        NewTestCase("passes now", status="Passed"),
        NewTestCase("says nothing", status="Failed"),
    ]
    cases = [case.id for case in await test_cases.insert_many(connection, run, None, new)]
    await steps.insert_many(connection, cases[1], None, [NewStep(1, "click", status="Failed", error_message="no")])
    right = [stored(case)[0] for case in cases]
    rows("UPDATE test_case_results SET error_fingerprint = CASE WHEN status = 'Passed' THEN 'x'::bytea END")
    rows("DELETE FROM errors")
    last, failed = await grouping.sweep(connection, UUID(int=0))
    assert last == cases[-1] and failed == cases
    assert await grouping.regroup(connection, failed) == 3
    assert [stored(case)[0] for case in cases] == right and len(rows("SELECT FROM errors")) == 2
    assert await grouping.regroup(connection, failed) == 0
    assert await grouping.sweep(connection, last) == (None, [])
