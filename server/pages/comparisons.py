"""The pages that compare: two runs, and two results of a test."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.http import html
from server.http.reply import Response
from server.reports import comparisons, run_comparisons, run_tests, side_by_side
from server.reports.run_comparisons import BaseRun, ChangedTest, RunComparison
from server.reports.scope import name_and_main_branch, project_within
from server.services import CALL
from server.viewer import render
from server.viewer.filters import FilteredAddress

_LISTED = 25  # tests of each list, unless one list alone is asked for
_LISTS = {
    "new_failures": "New failures",
    "fixed": "Fixed",
    "still_failing": "Still failing",
    "slower": "Slower",
    "came_and_went": "Came and went",
}


class Other:
    """`last-green`, or the id of a result."""

    __slots__ = ("value",)

    def __init__(self, value: UUID | None) -> None:
        self.value = value

    @classmethod
    def parse(cls, value: object) -> "Other":
        try:
            return cls(None if value == "last-green" else UUID(str(value)))
        except ValueError:
            raise ValueError("must be last-green or the id of a result") from None


class ResultsQuery(Struct, rename={"other": "with"}):
    """`diff`: the step to look at, as `2.17`; by default the first difference."""

    other: Other | None = None
    diff: Annotated[str, Meta(max_length=50)] | None = None


class RunsQuery(Struct, kw_only=True):
    """`list`: the only list that is shown, then with all of its tests."""

    head: UUID
    base: BaseRun | None = None
    list: Literal["new_failures", "fixed", "still_failing", "slower", "came_and_went"] | None = None


async def show_results(request: web.Request, case_id: UUID, query: ResultsQuery) -> Response:
    """Two results of a test, step by step."""
    reads, other = request[CALL].reads, query.other.value if query.other else None
    head, base = await comparisons.both(reads, case_id, request[CALL].scope, other)
    shown = await side_by_side.read(reads, head, base, query.diff)
    project, _ = await name_and_main_branch(reads, head.project_id)
    draw = partial(
        render.page,
        "compared_results.html",
        here=FilteredAddress.of(request.path, request.query, ResultsQuery.__struct_encode_fields__),
        shown=shown,
        green=other is None,
        project=project,
        now=datetime.now(UTC),
    )
    return await html.page(request, draw, rows=min(shown.total, 2_000))


async def show_runs(request: web.Request, query: RunsQuery) -> Response:
    """What changed from one run to another."""
    reads, base = request[CALL].reads, query.base.value if query.base else "previous"
    scope = await project_within(reads, "suite_id", query.head, request[CALL].known_caller.projects())
    found = await run_comparisons.compare(reads, query.head, scope, base)
    lists = _lists(found)
    most = _LISTED if query.list is None else run_comparisons.MAX_LISTED * 2
    shown = {name: tests[:most] for name, (_, tests) in lists.items() if query.list in (None, name)}
    failed = [side.test_case_result_id for tests in shown.values() for test in tests for side in _failures(test)]
    async with reads.acquire() as connection:
        steps = await run_tests.failed_steps(connection, failed)
        project, main_branch = await name_and_main_branch(connection, scope)
    draw = partial(
        render.page,
        "compared_runs.html",
        here=FilteredAddress.of(request.path, request.query, RunsQuery.__struct_fields__),
        found=found,
        base_word=base if isinstance(base, str) else None,
        titles=_LISTS,
        numbers={name: number for name, (number, _) in lists.items()},
        lists=shown,
        steps=steps,
        project=project,
        main_branch=main_branch,
        now=datetime.now(UTC),
    )
    return await html.page(request, draw, rows=sum(map(len, shown.values())))


def _lists(found: RunComparison) -> dict[str, tuple[int, Sequence[ChangedTest]]]:
    """Each list with the number of its tests, which may be more than it has."""
    counts = found.counts
    lists = {name: (getattr(counts, name), getattr(found, name)) for name in list(_LISTS)[:4]}
    lists["came_and_went"] = (counts.appeared + counts.disappeared, [*found.appeared, *found.disappeared])
    return lists


def _failures(test: ChangedTest) -> list[run_comparisons.ComparedTest]:
    """The result whose failed step is shown: the newer one, or that which has been fixed."""
    return [side for side in (test.head, test.base) if side is not None and side.status == "Failed"][:1]
