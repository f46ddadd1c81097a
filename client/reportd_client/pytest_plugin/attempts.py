"""Records the tests of one process: each attempt from its setup to the report of its teardown."""

from __future__ import annotations

import logging
from typing import Any, Generator, Optional

import pytest

from reportd_client.notes import Notes, harmless
from reportd_client.pytest_plugin.attempt import Attempt
from reportd_client.pytest_plugin.browser import Browsers
from reportd_client.pytest_plugin.options import Options
from reportd_client.pytest_plugin.subtests import named_subtests, record_subtest
from reportd_client.runs import Recorder

BROWSER_FIXTURES = ("page", "context", "new_context", "driver", "selenium", "browser")


class Attempts:
    def __init__(self, recorder: Recorder, options: Options) -> None:
        self._recorder, self._options = recorder, options
        self._current: Optional[Attempt] = None
        self._counts: dict[str, tuple[int, int, int]] = {}  # by node id: id() of the item, its number, its attempts
        self._browsers = Browsers(recorder.notes, self._entry)
        self._handler = _Records(self, options.log_level)

    @property
    def notes(self) -> Notes:
        return self._recorder.notes

    def _entry(self, kind: str, entry: dict[str, Any]) -> None:
        """An entry of a browser: of the test that runs when it comes."""
        if self._current is not None:
            self._current.hold(kind, entry)

    # --- one attempt ---

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        root = logging.getLogger()
        root.addHandler(self._handler)
        yield
        root.removeHandler(self._handler)
        self._end()  # of an attempt whose teardown has no report, as after pytest.exit()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, None]:
        self._begin(item)
        yield from self._phase("setup")

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, None]:
        yield from self._phase("teardown")

    def _phase(self, name: str) -> Generator[None, Any, None]:
        attempt = self._current
        if attempt is not None:
            attempt.enter_phase(name)
        outcome = yield
        if attempt is not None:
            attempt.leave_phase(name, outcome.excinfo[1] if outcome.excinfo else None)

    @harmless
    def _begin(self, item: pytest.Item) -> None:
        self._end()
        owner, number, attempt = self._counts.get(item.nodeid, (id(item), 1, 0))
        if owner != id(item):  # the same id again, as with --keep-duplicates: another test, nothing is overwritten
            owner, number, attempt = id(item), number + 1, 0
        self._counts[item.nodeid] = (owner, number, attempt + 1)
        test_id = item.nodeid if number == 1 else f"{item.nodeid} #{number}"
        self._current = Attempt(self._recorder, self._options, item, test_id, attempt + 1)

    @harmless
    def _end(self) -> None:
        attempt, self._current = self._current, None
        if attempt is not None:
            attempt.end()

    # --- reports ---

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
        outcome = yield
        if outcome.excinfo is None:
            self._report(item, call, outcome.get_result())

    @harmless
    def _report(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        attempt = self._current
        if attempt is None or attempt.item is not item:
            return
        attempt.take(report, call.excinfo)
        if report.when != "teardown":
            self._evidence(attempt, report)
        else:
            self._end()

    def _evidence(self, attempt: Attempt, report: pytest.TestReport) -> None:
        """Screenshots and logs of browsers, while the fixtures still live."""
        failed = report.failed
        take = failed if self._options.screenshots == "failed" else self._options.screenshots == "all"
        if take and (failed or report.when == "call"):
            self._browsers.screenshots(attempt, "error" if failed else "after")
        if report.when == "call":
            self._browsers.driver_logs(attempt)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if hasattr(report, "context") and self._current is not None and report.nodeid == self._current.item.nodeid:
            record_subtest(self._current, report)

    # --- fixtures ---

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, Any, None]:
        outcome = yield
        if outcome.excinfo is None:
            self._fixture(fixturedef, outcome.get_result())

    @harmless
    def _fixture(self, fixturedef: Any, value: Any) -> None:
        if fixturedef.argname in BROWSER_FIXTURES and value is not None:
            self._browsers.watch(fixturedef.argname, value, self._options.network != "off")
        elif fixturedef.argname == "subtests":
            named_subtests(value)

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        if fixturedef.argname in BROWSER_FIXTURES:
            self._browsers.forget(fixturedef.argname)

    # --- pytest-bdd ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_bdd_before_step(self, step: Any) -> None:
        if self._current is not None:
            self._current.enter_step(f"{step.keyword} {step.name}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_bdd_after_step(self) -> None:
        if self._current is not None:
            self._current.leave_step(None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_bdd_step_error(self, exception: BaseException) -> None:
        if self._current is not None:
            self._current.leave_step(exception)

    def log(self, record: logging.LogRecord) -> None:
        if self._current is not None:
            self._current.log(record)


class _Records(logging.Handler):
    """Makes console entries of log records. Loggers and other handlers keep their levels."""

    def __init__(self, attempts: Attempts, level: int) -> None:
        super().__init__(level)
        self._attempts = attempts

    def emit(self, record: logging.LogRecord) -> None:
        self._attempts.log(record)
