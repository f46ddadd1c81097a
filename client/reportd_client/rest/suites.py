"""Calls about runs, their tests, and what is made of them: comparisons, errors, histories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping, Optional, Sequence, Union

from reportd_client.rest.connection import Connection, Moment, at
from reportd_client.rest.form import File, Form
from reportd_client.sender.body import Json

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from reportd_client.rest import shapes


class Calls:
    """The calls about one noun of the API."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


class SuiteRuns(Calls):
    def create(self, *, idempotency_key: Optional[str] = None, **fields: Unpack[shapes.NewSuiteRun]) -> shapes.SuiteRun:
        """Create a run. With a `run_key` that a run has already, that run comes back."""
        return self._connection.create(at("suite-runs"), fields, idempotency_key)

    def index(
        self,
        *,
        status: Optional[str] = None,
        name: Optional[str] = None,
        branch: Optional[str] = None,
        environment: Optional[str] = None,
        tag: Optional[str] = None,
        since: Moment = None,
        until: Moment = None,
        run_key: Optional[str] = None,
    ) -> Iterator[shapes.SuiteRun]:
        """The runs, newest first."""
        query = {"status": status, "name": name, "branch": branch, "environment": environment, "tag": tag}
        return self._connection.chained(at("suite-runs"), {**query, "since": since, "until": until, "run_key": run_key})

    def show(self, suite_id: str) -> shapes.SuiteRun:
        return self._connection.get(at("suite-runs", suite_id))

    def update(self, suite_id: str, **fields: Unpack[shapes.SuiteRunPatch]) -> shapes.SuiteRun:
        """Change the fields that are given; `None` clears one."""
        return self._connection.change("PATCH", at("suite-runs", suite_id), fields)

    def delete(self, suite_id: str) -> None:
        """Delete a run with everything in it. Needs the role admin."""
        self._connection.delete(at("suite-runs", suite_id))


class Shards(Calls):
    """The parts of a run that run side by side, and what of the run is missing."""

    def replace(self, suite_id: str, index: int, **fields: Unpack[shapes.Shard]) -> shapes.SuiteRun:
        """Say how shard `index` of `total` is doing. When the last one has finished, the run has, too."""
        return self._connection.change("PUT", at("suite-runs", suite_id, "shards", str(index)), fields)

    def show(self, suite_id: str) -> shapes.Completeness:
        """Whether a run is complete: which shards are silent, which tests and files never came."""
        return self._connection.get(at("suite-runs", suite_id, "completeness"))


class Archives(Calls):
    def show(self, suite_id: str, to: Union[str, os.PathLike[str]]) -> Path:
        """Write a run with its data, files and pages to a zip, which appears when it is whole."""
        return self._connection.download(at("suite-runs", suite_id, "archive"), to)


class TestCases(Calls):
    """Test case results: one for each attempt of a test."""

    __test__ = False  # pytest would take it for a class of tests

    def create(
        self, suite_id: str, *, idempotency_key: Optional[str] = None, **fields: Unpack[shapes.NewTestCase]
    ) -> shapes.TestCase:
        return self._connection.create(at("suite-runs", suite_id, "test-cases"), fields, idempotency_key)

    def create_many(
        self, suite_id: str, test_cases: Sequence[shapes.NewTestCase], *, idempotency_key: Optional[str] = None
    ) -> shapes.TestCasesCreated:
        """Up to 10,000, all or none."""
        path = at("suite-runs", suite_id, "test-cases", "bulk")
        return self._connection.create(path, {"test_cases": list(test_cases)}, idempotency_key)

    def index(
        self, suite_id: str, *, status: Optional[str] = None, q: Optional[str] = None
    ) -> Iterator[shapes.TestCase]:
        """The results of a run, as they were sent. `q`: a part of their names."""
        path = at("suite-runs", suite_id, "test-cases")
        return self._connection.numbered(path, {"status": status, "q": q})

    def show(self, case_id: str) -> shapes.TestCase:
        return self._connection.get(at("test-case-results", case_id))

    def update(self, case_id: str, **fields: Unpack[shapes.TestCasePatch]) -> shapes.TestCase:
        """Change the fields that are given; `None` clears one."""
        return self._connection.change("PATCH", at("test-case-results", case_id), fields)


class Bundles(Calls):
    def create(
        self,
        suite_id: str,
        tests: Sequence[shapes.BundledTest],
        files: Sequence[File] = (),
        *,
        idempotency_key: Optional[str] = None,
    ) -> shapes.BundleStored:
        """Whole results with steps, logs and files in one request. `file_index` counts the files from 0."""
        body: Mapping[str, object] = {"tests": list(tests)}
        form = Form({"bundle": Json(body).data.decode()}, files, "files") if files else body
        return self._connection.create(at("suite-runs", suite_id, "bundle"), form, idempotency_key)


class Reports(Calls):
    def show(self, case_id: str) -> shapes.Report:
        """A result with its steps, files and checkpoints, up to 2,000 of each."""
        return self._connection.get(at("test-case-results", case_id, "report"))


class Comparisons(Calls):
    """What changed since a test passed last, or since another run."""

    def last_green(self, case_id: str) -> shapes.LastGreen:
        return self._connection.get(at("test-case-results", case_id, "last-green"))

    def first_difference(self, case_id: str, *, with_: Optional[str] = None) -> shapes.FirstDifference:
        """`with_`: the id of the other result, by default of the last green one."""
        return self._connection.get(at("test-case-results", case_id, "first-difference"), {"with": with_})

    def show(
        self, case_id: str, *, with_: Optional[str] = None, differing: Optional[bool] = None
    ) -> shapes.ResultComparison:
        """All steps of two results side by side; `differing`: only those that differ."""
        path = at("test-case-results", case_id, "comparison")
        return self._connection.get(path, {"with": with_, "differing": differing})

    def show_runs(self, suite_id: str, *, base: Optional[str] = None) -> shapes.RunComparison:
        """`base`: `previous` (the default), `main`, or the id of a run."""
        return self._connection.get(at("suite-runs", suite_id, "comparison"), {"base": base})

    def show_marks(self, suite_id: str) -> shapes.RunMarks:
        """The tests of a run that newly fail, fail for long, are flaky, or slower."""
        return self._connection.get(at("suite-runs", suite_id, "marks"))


class Errors(Calls):
    """Failures that are the same error, whatever ids and times are in their messages."""

    def index_of_run(self, suite_id: str) -> shapes.RunErrors:
        return self._connection.get(at("suite-runs", suite_id, "errors"))

    def index(self, *, project: Optional[str] = None, since: Moment = None) -> Iterator[shapes.ErrorGroup]:
        """The errors of a project, the last seen first."""
        return self._connection.chained(at("errors"), {"project": project, "since": since})

    def show(self, fingerprint: str, *, project: Optional[str] = None) -> shapes.ErrorDetail:
        return self._connection.get(at("errors", fingerprint), {"project": project})


class Tests(Calls):
    __test__ = False

    def show(
        self,
        test_id: str,
        *,
        project: Optional[str] = None,
        branch: Optional[str] = None,
        browser: Optional[str] = None,
        environment: Optional[str] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> shapes.TestHistory:
        """A summary of a test, and its results, newest first. `cursor`: the `next_cursor` of the last reply."""
        query = {"test_id": test_id, "project": project, "branch": branch, "browser": browser}
        return self._connection.get(
            at("tests"), {**query, "environment": environment, "limit": limit, "cursor": cursor}
        )


class Search(Calls):
    def show(self, q: str, *, project: Optional[str] = None, in_: Optional[str] = None) -> shapes.SearchResult:
        """Tests and errors with these words; `in_`: only `errors` or `tests`."""
        return self._connection.get(at("search"), {"q": q, "project": project, "in": in_})


class Insights(Calls):
    def show(
        self,
        *,
        show: Optional[str] = None,
        project: Optional[str] = None,
        days: Optional[int] = None,
        q: Optional[str] = None,
    ) -> shapes.Insights:
        """What results of a project have in common; `show`: `flaky` (the default), `slow`, `selectors`, `trends`."""
        return self._connection.get(at("insights"), {"show": show, "project": project, "days": days, "q": q})
