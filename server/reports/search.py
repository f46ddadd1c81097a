"""Search for errors, tests and selectors. It looks at each of them once, not at all their results."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import asyncpg

from server.compare.stable import stable
from server.database.queries import SQL
from server.reports import errors
from server.reports.errors import ErrorGroup
from server.reports.words import Status

_SHOWN = 20
_TESTS_AT_ONCE = 1_000
_ENOUGH = 200  # tests found, of which the best are shown
_SECONDS = 0.15


KINDS = ("errors", "tests", "selectors")


class Kinds(str):
    """Some of KINDS, with commas between them."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "Kinds":
        if not isinstance(value, str) or not set(value.split(",")) <= set(KINDS):
            raise ValueError("must be some of these, with commas between them: " + ", ".join(KINDS))
        return cls(value)

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "description": f"Some of {', '.join(KINDS)}, with commas between",
    }


@dataclass(slots=True)
class FoundTest:
    """A test with its newest result."""

    project: str
    test_id: str
    name: str
    test_case_result_id: UUID
    suite_run_id: UUID
    status: Status


@dataclass(slots=True)
class FoundSelector:
    """A selector in the newest 50 runs of a project, as far as insights have counted them: how often steps used it and
    failed, and a result that used it."""

    project: str
    selector: str
    element_name: str | None
    used: int
    failed: int
    test_case_result_id: UUID | None


@dataclass(slots=True)
class SearchResult:
    """At most 20 of each kind, null when it was not searched. `complete`: whether all was searched: false when hundreds
    of tests fit, or it took too long."""

    errors: list[ErrorGroup] | None
    tests: list[FoundTest] | None
    complete: bool
    selectors: list[FoundSelector] | None = None


async def find(connection: Any, projects: Sequence[UUID] | None, text: str, kinds: Kinds | None = None) -> SearchResult:
    """What fits a text best, of the `kinds` (None: all)."""
    result, wanted = SearchResult(None, None, True), kinds.split(",") if kinds else KINDS
    if "errors" in wanted:
        result.errors, result.complete = await errors_with(connection, projects, text)
    if "tests" in wanted:
        result.tests, complete = await tests_with(connection, projects, text)
        result.complete = result.complete and complete
    if "selectors" in wanted:
        result.selectors, complete = await selectors_with(connection, projects, text)
        result.complete = result.complete and complete
    return result


async def errors_with(connection: Any, projects: Sequence[UUID] | None, text: str) -> tuple[list[ErrorGroup], bool]:
    """The errors of these projects (None: all) that fit best, and whether all were searched.

    The text is also compared as it would be grouped: a message with the number of another order finds its error.
    """
    by_words, by_text = SQL.search.errors_by_words, SQL.search.errors_by_text
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(SQL.search.bound)
            for query, wanted in ((by_words, text), (by_words, stable(text)), (by_text, text)):
                if found := await connection.fetch(query, projects, wanted, _SHOWN):
                    break
    except asyncpg.QueryCanceledError:
        return [], False
    return await errors.facts(connection, [(row["project_id"], row["fingerprint"]) for row in found]), True


async def tests_with(connection: Any, projects: Sequence[UUID] | None, text: str) -> tuple[list[FoundTest], bool]:
    """The tests of these projects (None: all) whose test_id and name contain all words of the text, in any order; those
    that contain the text itself first, then those with the newest results. And whether all were searched."""
    end, found, complete = time.monotonic() + _SECONDS, [], True
    for project_id, project in await connection.fetch(SQL.projects.named, projects):
        start: str | None = None
        while complete:
            wanted = project_id, start, _TESTS_AT_ONCE + 1, text.split(), text
            rows = await connection.fetch(SQL.search.tests, *wanted)
            last = bool(rows) and rows[-1]["last"]
            found += [(row["literal"], row["id"], project, row) for row in (rows[:-1] if last else rows)]
            if not last:
                break
            start = rows[-1]["test_id"]
            complete = time.monotonic() < end and len(found) < _ENOUGH
    best = sorted(found, key=lambda each: each[:2], reverse=True)[:_SHOWN]
    return [FoundTest(project, *row[:5]) for *_, project, row in best], complete


async def selectors_with(
    connection: Any, projects: Sequence[UUID] | None, text: str
) -> tuple[list[FoundSelector], bool]:
    """The selectors of these projects (None: all) that contain the text, those that failed most often first; and
    whether all were searched."""
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(SQL.search.bound)
            rows = await connection.fetch(SQL.insights.selectors_with, projects, text, _SHOWN)
    except asyncpg.QueryCanceledError:
        return [], False
    return [FoundSelector(*row) for row in rows], True
