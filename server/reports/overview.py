"""What the first page shows: the failures that need a look, and the runs, newest first."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.ids import first_id
from server.reports import run_tests, suite_runs
from server.reports.marks import Marks
from server.reports.run_comparisons import ComparedRun
from server.reports.run_tests import Counts, FailedStep, Failure
from server.reports.suite_runs import SuiteRun

_LOOKED_BACK = timedelta(days=30)
_MAX_CARDS = 6
_MAX_FAILURES = 100  # of each run, for the cards
_MAX_VALUES = 100  # of a filter
QUIET_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Card:
    """A failing test of the newest run of a suite, with the step that failed, and how many `others` of that run failed
    with the same error."""

    project: str
    run: ComparedRun
    failure: Failure
    step: FailedStep | None
    others: int
    marks: Marks


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in a list. `quiet`: it is running, and this long has nothing been sent to it; None: it is not quiet."""

    run: SuiteRun
    counts: Counts
    quiet: timedelta | None


@dataclass(frozen=True, slots=True)
class Known:
    """What runs can be filtered by: values of the newest runs, sorted."""

    names: Sequence[str]
    branches: Sequence[str]
    environments: Sequence[str]
    tags: Sequence[str]


async def projects(connection: Any, visible: Collection[UUID] | None) -> dict[str, UUID]:
    """The projects with these ids (None: all), by name. Sorted."""
    return {row["name"]: row["id"] for row in await connection.fetch(SQL.projects.visible, visible)}


async def known(connection: Any, visible: Sequence[UUID] | None) -> Known:
    """The values of the newest 500 runs of each of these projects (None: of the newest of all projects)."""
    rows = [
        await connection.fetchrow(SQL.suite_runs.known, project_id)
        for project_id in ([None] if visible is None else visible)
    ]
    columns = ([value for row in rows for value in row[column] or () if value] for column in Known.__slots__)
    return Known(*(sorted(set(values))[:_MAX_VALUES] for values in columns))


async def needs_a_look(connection: Any, visible: Sequence[UUID] | None) -> tuple[list[Card], int]:
    """Failing tests of the newest run of each suite on its main branch, one for each error, and how many suites there
    are. Each suite has its turn: a broken one does not hide the others."""
    since = first_id(datetime.now(UTC) - _LOOKED_BACK)
    rows = await connection.fetch(SQL.suite_runs.of_main_branches, visible, since)
    projects = {run_id: project for run_id, *_, project in rows}
    runs = [ComparedRun(*row[:-1]) for row in rows]
    failures = await run_tests.failing(connection, list(projects), _MAX_FAILURES)
    by_run = [
        [(run, group) for group in run_tests.by_error(each for each in failures if each.suite_run_id == run.id)]
        for run in runs
    ]
    turns = [turn for turn in chain.from_iterable(zip_longest(*by_run)) if turn is not None][:_MAX_CARDS]
    steps = await run_tests.failed_steps(connection, [group.tests[0].id for _, group in turns])
    marks: dict[UUID, Marks] = {}
    for run in {run.id: run for run, _ in turns}.values():
        shown = [group.tests[0] for other, group in turns if other is run]
        marks |= await run_tests.marks_of(connection, run, shown)
    cards = []
    for run, group in turns:
        first = group.tests[0]
        cards.append(Card(projects[run.id], run, first, steps.get(first.id), len(group.tests) - 1, marks[first.id]))
    return cards, len(runs)


async def listed(connection: Any, runs: Sequence[SuiteRun]) -> list[ListedRun]:
    """The runs with their counts of tests, and whether they are quiet."""
    counts = await run_tests.counts(connection, [run.id for run in runs])
    silent = await quiet(connection, [run.id for run in runs if run.status == "Running"])
    return [ListedRun(run, counts.get(run.id, Counts()), silent.get(run.id)) for run in runs]


async def quiet(where: Any, running: Sequence[UUID]) -> dict[UUID, timedelta]:
    """Of these runs, those to which nothing has been sent for an hour, with how long."""
    sent = await where.fetch(SQL.suite_runs.last_sent, running) if running else []
    now = datetime.now(UTC)
    return {row["id"]: now - row["at"] for row in sent if now - row["at"] >= QUIET_AFTER}


async def one(connection: Any, run_id: UUID, scope: UUID | None) -> ListedRun:
    """A run with its counts. Raises SuiteRunNotFound."""
    run = await suite_runs.by_id(connection, run_id, scope)
    (found,) = await listed(connection, [run])
    return found
