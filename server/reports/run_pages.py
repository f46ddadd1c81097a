"""What the page of a suite run lists: failed tests by error, and the first of the others; or the tests that match
filters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from server.errors import Invalid, Problem
from server.reports import errors, run_tests
from server.reports.run_comparisons import ComparedRun
from server.reports.run_tests import Counts, State

TESTS = 200  # a page
_FOLDED = 20  # tests of each status that the first page of a run lists
_CARDS = 3  # failed tests of a group that are shown with a picture
_MARKED = 60  # failed tests of a page whose history is read
_SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters in the address. `error` is the key of a group, `group` whether failures are grouped."""

    status: State | None = None
    q: str | None = None
    tag: str | None = None
    error: str | None = None
    group: Literal["error", "none"] | None = None
    cursor: str | None = None

    @property
    def as_list(self) -> bool:
        """Whether the page is a list of tests."""
        return bool(self.q or self.tag or self.error or self.group == "none" or self.status not in (None, "Failed"))


async def values(connection: Any, run: ComparedRun, counts: Counts, asked: Asked, history: bool) -> dict[str, Any]:
    """What the templates of the page need; `further` is the cursor of the next page, None on the last one.

    `history`: with what other runs of the project say about the failures. Raises Invalid for a wrong cursor.
    """
    if asked.as_list:
        return await _list(connection, run, counts, asked)
    return await _overview(connection, run, counts, asked, history)


async def _overview(connection: Any, run: ComparedRun, counts: Counts, asked: Asked, history: bool) -> dict[str, Any]:
    """Failures by error, the largest group first, and without a status the first of the other tests."""
    failures = await run_tests.failing(connection, [run.id]) if counts.failed else []
    groups = run_tests.by_error(failures)
    start = _start(asked.cursor, len(groups))
    shown = _fitting(groups[start:])
    pictured = [test for group in shown for test in group.tests[:_CARDS]]
    others = {}
    if asked.status is None and start == 0:
        for state, number in states(counts)[1:]:
            if number:
                others[state], _ = await run_tests.page(connection, run.id, _FOLDED, state=state)
    end = start + len(shown)
    return {
        "listing": None,
        "groups": shown,
        "steps": await run_tests.failed_steps(connection, [test.id for test in pictured]),
        "marks": await run_tests.marks_of(connection, run, pictured[:_MARKED]) if history else {},
        "errors": await _errors(connection, run.project_id, shown) if history else {},
        "cut": counts.failed - len(failures),
        "others": others,
        "slowest": [] if counts.failed else await run_tests.slowest(connection, run.id, _SLOWEST),
        "further": str(end) if end < len(groups) else None,
        "states": states(counts),
    }


async def _errors(connection: Any, project_id: UUID, groups: Sequence[run_tests.Group]) -> dict[str, errors.ErrorGroup]:
    """What is known about the errors of these groups, by their key."""
    keys = [bytes.fromhex(group.key) for group in groups if group.tests[0].fingerprint is not None]
    return {found.fingerprint: found for found in await errors.facts(connection, [(project_id, key) for key in keys])}


async def _list(connection: Any, run: ComparedRun, counts: Counts, asked: Asked) -> dict[str, Any]:
    """A page of the tests that match the filters, failed ones first."""
    after = _place(asked.cursor)
    if asked.error:
        found, more = await run_tests.with_error(connection, run.id, asked.error, TESTS, after)
    else:
        found, more = await run_tests.page(
            connection, run.id, TESTS, state=asked.status, name=asked.q, tag=asked.tag, after=after
        )
    return {
        "listing": found,
        "steps": await run_tests.failed_steps(connection, [test.id for test in found if test.status == "Failed"]),
        "further": f"{found[-1].rank}.{found[-1].id}" if more else None,
        "states": states(counts),
    }


def _fitting(groups: Sequence[run_tests.Group]) -> list[run_tests.Group]:
    """As many of the groups as a page holds: at most TESTS tests in all, and at least one group."""
    shown: list[run_tests.Group] = []
    rows = 0
    for group in groups:
        rows += min(len(group.tests), _FOLDED)
        if shown and rows > TESTS:
            break
        shown.append(group)
    return shown


def states(counts: Counts) -> list[tuple[State, int]]:
    return [
        ("Failed", counts.failed),
        ("Flaky", counts.flaky),
        ("Pending", counts.pending),
        ("Skipped", counts.skipped),
        ("Passed", counts.passed),
    ]


def _start(cursor: str | None, most: int) -> int:
    """How many groups the earlier pages showed. Raises Invalid."""
    if cursor is None:
        return 0
    if not cursor.isdecimal() or int(cursor) > most:
        raise _wrong_cursor()
    return int(cursor)


def _place(cursor: str | None) -> tuple[int, UUID] | None:
    """The rank and id in a cursor. Raises Invalid."""
    if cursor is None:
        return None
    rank, _, text = cursor.partition(".")
    try:
        if rank in ("0", "1"):
            return int(rank), UUID(text)
    except ValueError:
        pass
    raise _wrong_cursor()


def _wrong_cursor() -> Invalid:
    return Invalid(Problem("cursor", "must be the one of a link to the next page"))
