"""The list of steps that the database encodes: byte for byte what Python encodes from the rows. And how steps are
inserted."""

import random
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from server.bodies.steps import NewStep
from server.database.pool import _SESSION
from server.database.queries import SQL
from server.http import reply
from server.ids import new_ids
from server.reports import steps
from server.reports.steps import IllustratedStep, Screenshot, Step, StepArtifact

ODD_TEXTS = [None, "", "a", 'a "quoted" \\ path', "line\nbreak\ttab\x01\x7f", "ü 漢字 🎉 \u2028", "</p>", "{}", "null"]
CATEGORIES = [None, "before", "after", "error", "checkpoint"]
STATUSES = ["Passed", "Failed", "Skipped", "Pending"]
START = datetime(2026, 1, 24, 12, tzinfo=UTC)


@pytest.fixture
async def connection(connect):
    return await connect()


@pytest.fixture
async def case(connection):
    """A test case of two iterations with odd steps and artifacts: in an order of ids that is not that of the rows, of
    steps with none or several, of no step, shown by several steps or by a step of another iteration; and a second test
    case that has artifacts, too."""
    run = await connection.fetchval(
        "INSERT INTO suite_runs (project_id, name) SELECT id, 'x' FROM projects RETURNING id"
    )
    insert = """INSERT INTO test_case_results (suite_run_id, project_id, name, test_id)
        SELECT $1, id, 'x', 'x' FROM projects RETURNING id"""
    case, other = [await connection.fetchval(insert, run) for _ in range(2)]
    chance = random.Random(7)
    for each in (case, other):
        await _fill(connection, each, chance)
    return case


async def _fill(connection, case, chance):
    def text():
        return chance.choice(ODD_TEXTS)

    def moment():
        return chance.choice([None, START + timedelta(microseconds=chance.randrange(10**12))])

    positions = [(iteration, number) for iteration in (1, 2) for number in range(12)]
    chance.shuffle(positions)
    step_ids = new_ids(1, len(positions))
    texts = ["description", "element_selector", "element_name", "input_value", "error_message", "stack_trace"]
    for step_id, (iteration, number) in zip(step_ids, positions, strict=True):
        await connection.execute(
            f"""INSERT INTO test_step_results (id, test_case_result_id, iteration_number, step_number, step_type,
                status, started_at, completed_at, duration_ms, {", ".join(texts)})
            VALUES ($1, $2, $3, $4, 'click', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)""",
            *(step_id, case, iteration, number, chance.choice(STATUSES), moment(), moment()),
            *(chance.choice([None, 0, 2**31 - 1]), *[text() for _ in texts]),
        )
    artifact_ids = new_ids(1, 40)
    for artifact_id in chance.sample(artifact_ids, len(artifact_ids)):
        await connection.execute(
            """INSERT INTO test_artifacts (id, test_case_result_id, step_result_id, artifact_type, artifact_category,
                file_name, file_size, mime_type, checksum, storage_path, dedupe_key, captured_at)
            VALUES ($1, $2, $3, 'screenshot', $4, $5, $6, 'image/png', '', $1::uuid::text, $7, $8)""",
            *(artifact_id, case, chance.choice([None, *step_ids[:8]]), chance.choice(CATEGORIES), text() or "x"),
            *(chance.choice([0, 2**40]), artifact_id.bytes, moment()),
        )
    for step_id in step_ids[::2]:
        shown = chance.choice(artifact_ids[:5])
        show = "UPDATE test_step_results SET screenshot_artifact_id = $2 WHERE id = $1"
        await connection.execute(show, step_id, shown)


async def _made_in_python(connection, case, condition, *values):
    names = ", ".join(field.name for field in fields(Step))
    found = await connection.fetch(
        f"""SELECT {names} FROM test_step_results WHERE test_case_result_id = $1 AND {condition}
        ORDER BY iteration_number, step_number""",
        *(case, *values),
    )
    stored = await connection.fetch("SELECT * FROM test_artifacts ORDER BY id")

    def path(artifact):
        return f"/api/v1/reports/artifacts/{artifact['id']}/download"

    made = []
    for step in found:
        shown = [
            Screenshot(a["id"], path(a), path(a), a["file_name"], a["file_size"])
            for a in stored
            if a["id"] == step["screenshot_artifact_id"]
        ]
        owned = [
            StepArtifact(*[a[field.name] for field in fields(StepArtifact)[:-1]], path(a))
            for a in stored
            if a["step_result_id"] == step["id"]
        ]
        made.append(IllustratedStep(*step, screenshot=shown[0] if shown else None, artifacts=owned))
    return made


@pytest.mark.parametrize(
    ("filters", "condition"),
    [((None, None), "true"), ((2, None), "iteration_number = 2"), ((None, "Failed"), "status = 'Failed'")],
)
async def test_the_database_encodes_steps_as_python_does(connection, case, filters, condition):
    made = await _made_in_python(connection, case, condition)
    owned = [len(step.artifacts) for step in made]
    assert min(owned) == 0 and max(owned) > 1 and any(step.screenshot for step in made)
    _, matching, listing = await steps.of_case(connection, case, None, filters)
    assert matching == len(made)
    assert reply.encode(listing) == reply.encode(made)
    for limit, offset in ((1, 0), (5, 3), (100, len(made) - 1), (5, 100)):
        _, matching, page = await steps.of_case(connection, case, None, filters, limit, offset)
        assert matching == len(made)
        assert reply.encode(page) == reply.encode(made[offset : offset + limit])


async def test_the_insert_of_steps_is_not_planned_each_time(connection, case):
    """From the sixth time on, PostgreSQL plans a statement only if it expects that to cost less than the plan for any
    values. It adds 2.5 for each table, so more than 30 here, for planning."""
    await connection.execute(f"{_SESSION}; PREPARE planned AS {SQL.steps.insert_many}")
    costs = []
    for mode in ("generic", "custom"):
        await connection.execute(f"SET plan_cache_mode = force_{mode}_plan")
        values = f"('{case}', NULL, '{{1}}', false, '{{}}', '[]', false, NULL, NULL, NULL, NULL)"
        plan = reply.plain(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE planned{values}"))
        costs.append(plan[0]["Plan"]["Total Cost"])
    assert costs[0] < costs[1] + 20, costs


async def test_an_empty_name_in_a_path_is_stored(connection, case):
    """The decoded name of `a%2F` is empty, which is another name than none."""
    new = [NewStep(number, "click", screenshot_path=path) for number, path in ((100, "a%2F"), (101, "a.png"))]
    await steps.insert_many(connection, case, None, new)
    names = "SELECT link_name FROM test_step_results WHERE test_case_result_id = $1 AND step_number >= 100 ORDER BY 1"
    assert [row["link_name"] for row in await connection.fetch(names, case)] == [["a%2F", ""], None]
