"""Comparisons: a result with its last green, a run with an earlier one, and marks on the tests of a run."""

from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.http import reply
from server.http.reply import Response
from server.reports import comparisons, marks, run_comparisons
from server.reports.comparisons import LastGreen
from server.services import CALL


class OtherResult(Struct, rename={"other": "with"}):
    other: UUID | None = None


class ComparisonFilter(Struct, rename={"other": "with"}):
    other: UUID | None = None
    differing: bool = False


class RunFilter(Struct):
    base: run_comparisons.BaseRun | None = None


async def last_green(request: web.Request, case_id: UUID) -> Response:
    """Shows the last green of a result: the result of the same test that passed before and is compared with it.

    Of the 500 results of the test before this one, it is the newest that passed: with the same browser if there is one,
    then on the same branch, else on the project's main branch, else on any. `last_green` is null when none passed.
    """
    reads = request[CALL].reads
    head = await comparisons.of_case(reads, case_id, request[CALL].scope)
    found = await comparisons.last_green(reads, head)
    same = None if found is None else found.browser == head.browser
    return reply.ok(LastGreen(case_id, found, same, comparisons.SEARCHED))


async def first_difference(request: web.Request, case_id: UUID, query: OtherResult) -> Response:
    """Shows the first step in which a result differs from its last green, or from the result `with`.

    Steps are aligned by what they do, not by their numbers. `row` is the earliest step with a difference that may
    explain a failure, `failed_step` the first step that failed, `sentence` says both. Differences in every run, such as
    ids and times, have the `weight` `grey` and do not count. Without a `row`, `reason` is `never_passed`, `no_steps`,
    `no_difference` or `too_long`. `limited` names the limits that cut the comparison: `steps` (5,000 of each result),
    `entries` (2,000 log entries), `alignment` (1,000 steps that differ), `time` (2 s).
    """
    reads, scope = request[CALL].reads, request[CALL].scope
    return reply.ok(await comparisons.first_difference(reads, case_id, scope, query.other))


async def show(request: web.Request, case_id: UUID, query: ComparisonFilter) -> Response:
    """Compares a result step by step with the result `with`, or with its last green.

    `rows` are the aligned steps, at most 2,000, where `base` is the other result; a step without a counterpart has null
    on one side. With `differing=true`, only rows with differences are listed. `first_difference` is an index in `rows`.
    `compared_with` is null when there is no last green. For `limited` see first-difference; `rows` is one more.
    """
    reads, scope = request[CALL].reads, request[CALL].scope
    return reply.ok(await comparisons.of_results(reads, case_id, scope, query.other, query.differing))


async def show_runs(request: web.Request, suite_id: UUID, query: RunFilter) -> Response:
    """Compares the tests of a run with those of an earlier run: what newly fails, is fixed, still fails, is slower.

    `base` is `previous` (the default): the newest earlier run of the same name and branch; `main`: the newest finished
    run of the same name on the project's main branch; or the id of a run of the same project. `base` of the reply is
    null when there is no such run; then every failure is new. Of each test and browser, the last attempt counts. Lists
    have at most 500 tests, `counts` has their lengths. `limited` names the limits that were reached: `tests` (10,000 of
    each run), `lists`. `error_changed`, of a test that failed in both, is whether its error is in another group.
    """
    reads, base = request[CALL].reads, query.base.value if query.base else "previous"
    return reply.ok(await run_comparisons.compare(reads, suite_id, request[CALL].scope, base))


async def show_marks(request: web.Request, suite_id: UUID) -> Response:
    """Shows the marks on the tests of a run: new, failing since, flaky, slower. Tests without a mark are left out.

    `new`: failed, and passed in the previous run of the same name and branch. `failing_since`: the first of the
    failures in a row, or the first that was read when `at_least` is true. `flaky_here`: the last attempt passed, an
    earlier one failed. `flaky`: passed and failed on one commit in the last 30 days, until it passed 20 times in a row.
    `slower`: the median of the last 5 passed results is more than 1.5 times that of the 30 before, and more than a
    second longer. All but `flaky_here` are computed for tests that failed or were flaky, from their last 150 results;
    for 100 tests at most, then `limited` has `marked`.
    """
    return reply.ok(await marks.of_run(request[CALL].reads, suite_id, request[CALL].scope))
