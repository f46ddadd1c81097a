"""Two runs: which tests newly fail, are fixed, still fail, became slower, came or went."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from uuid import UUID

from server.background import aside
from server.compare import runs
from server.compare.runs import Change, Changes, Outcome
from server.database.queries import SQL
from server.database.reads import Reads
from server.errors import SuiteRunNotFound
from server.reports.words import Moment, RunStatus, Status

MAX_TESTS = 10_000  # of each run
MAX_LISTED = 500  # of each list
_ERROR = 300  # characters of an error that are shown


class BaseRun:
    """`previous`, `main`, or the id of a run."""

    __slots__ = ("value",)

    def __init__(self, value: UUID | Literal["previous", "main"]) -> None:
        self.value = value

    @classmethod
    def parse(cls, value: object) -> "BaseRun":
        if value == "previous" or value == "main":
            return cls("previous" if value == "previous" else "main")
        try:
            return cls(UUID(str(value)))
        except ValueError:
            raise ValueError("must be previous, main, or the id of a suite run") from None

    schema: ClassVar[dict[str, object]] = {
        "anyOf": [{"type": "string", "enum": ["previous", "main"]}, {"type": "string", "format": "uuid"}]
    }


@dataclass(slots=True)
class ComparedRun:
    id: UUID
    project_id: UUID
    name: str
    status: RunStatus
    branch: str | None
    commit_sha: str | None
    started_at: Moment


@dataclass(slots=True)
class ComparedTest:
    test_case_result_id: UUID
    status: Status
    duration_ms: int | None
    attempts: int
    error: str | None


@dataclass(slots=True)
class ChangedTest:
    test_id: str
    browser: str | None
    name: str
    base: ComparedTest | None
    head: ComparedTest | None
    error_changed: bool | None


@dataclass(slots=True)
class ChangeCounts:
    new_failures: int
    fixed: int
    still_failing: int
    slower: int
    appeared: int
    disappeared: int


@dataclass(slots=True)
class RunComparison:
    head: ComparedRun
    base: ComparedRun | None
    counts: ChangeCounts
    new_failures: list[ChangedTest]
    fixed: list[ChangedTest]
    still_failing: list[ChangedTest]
    slower: list[ChangedTest]
    appeared: list[ChangedTest]
    disappeared: list[ChangedTest]
    limited: list[str]


async def by_id(where: Any, run_id: UUID, scope: UUID | None) -> ComparedRun:
    """The run. Raises SuiteRunNotFound."""
    row = await where.fetchrow(SQL.comparisons.run, run_id, scope)
    if row is None:
        raise SuiteRunNotFound()
    return ComparedRun(*row)


async def previous(where: Any, head: ComparedRun) -> ComparedRun | None:
    """The newest earlier run of the same name and branch; None when there is none."""
    place = head.project_id, head.id, head.name, head.branch
    row = await where.fetchrow(SQL.comparisons.previous_run, *place)
    return None if row is None else ComparedRun(*row)


async def on_main(where: Any, head: ComparedRun) -> ComparedRun | None:
    """The newest other finished run of the same name on the project's main branch; None when there is none."""
    row = await where.fetchrow(SQL.comparisons.main_run, head.project_id, head.id, head.name)
    return None if row is None else ComparedRun(*row)


async def tests(where: Any, run_id: UUID, limit: int = MAX_TESTS) -> list[Outcome]:
    """The last attempt of each test and browser of a run, by test and browser, at most `limit`."""
    return [Outcome(*row) for row in await where.fetch(SQL.comparisons.tests_of_run, run_id, limit)]


async def compare(
    reads: Reads, run_id: UUID, scope: UUID | None, base: UUID | Literal["previous", "main"]
) -> RunComparison:
    """Compares a run with `base`, a run of the same project, by its id or as previous() and on_main() choose it.

    Without such a run, each test that failed is a new failure. Raises SuiteRunNotFound.
    """
    async with (
        reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        head = await by_id(connection, run_id, scope)
        if isinstance(base, UUID):
            former: ComparedRun | None = await by_id(connection, base, head.project_id)
        else:
            former = await (previous if base == "previous" else on_main)(connection, head)
        after = await tests(connection, head.id, MAX_TESTS + 1)
        before = await tests(connection, former.id, MAX_TESTS + 1) if former else []
    work = 100 * (len(before) + len(after))
    found = await aside(work, runs.changes, before[:MAX_TESTS], after[:MAX_TESTS])
    limited = ["tests"] if max(len(before), len(after)) > MAX_TESTS else []
    return _reply(head, former, found, limited)


def _reply(head: ComparedRun, base: ComparedRun | None, found: Changes, limited: list[str]) -> RunComparison:
    lists: dict[str, list[Change]] = {name: getattr(found, name) for name in Changes.__dataclass_fields__}
    if any(len(each) > MAX_LISTED for each in lists.values()):
        limited = [*limited, "lists"]
    counts = ChangeCounts(**{name: len(each) for name, each in lists.items()})
    shown = {name: [_changed(change) for change in each[:MAX_LISTED]] for name, each in lists.items()}
    return RunComparison(head=head, base=base, counts=counts, **shown, limited=limited)


def _changed(change: Change) -> ChangedTest:
    test = change.shown
    return ChangedTest(
        test.test_id, test.browser, test.name, _test(change.base), _test(change.head), change.error_changed
    )


def _test(test: Outcome | None) -> ComparedTest | None:
    if test is None:
        return None
    status: Any = test.status
    error = (test.error_message or test.error_type or "").strip().partition("\n")[0][:_ERROR] or None
    return ComparedTest(test.id, status, test.duration_ms, test.attempts, error)
