"""One attempt of a test: its phases, its log, and the verdict that follows from pytest's reports."""

from __future__ import annotations

import logging
import os
from contextvars import Token
from typing import Any, Optional

import pytest

from reportd_client import limits
from reportd_client.notes import Notes, harmless
from reportd_client.pytest_plugin.options import Options, wanted
from reportd_client.runs import Recorder
from reportd_client.steps import CURRENT_STEP, CURRENT_TEST, Step
from reportd_client.tests import Test
from reportd_client.texts import cut

_NO_TAGS = ("parametrize", "usefixtures", "filterwarnings")  # marks that say how a test runs, not what it is
_MAX_TAGS = 20
_MAX_REPR = 200
_FILES = ("screenshot", "trace", "video")
_SHORT_PHASE, _SMALL_SHARE = 100, 0.1  # milliseconds, and share of the whole test
_MOST_HELD = 5_000


class Attempt:
    def __init__(self, recorder: Recorder, options: Options, item: pytest.Item, test_id: str, number: int) -> None:
        self.item, self._options = item, options
        self.notes: Notes = recorder.notes
        self.test = Test(recorder, _name(item), test_id, number, tags=_tags(item), metadata=_metadata(item))
        self.failed_subtests = 0
        self._reports: dict[str, pytest.TestReport] = {}
        self._errors: dict[str, BaseException] = {}
        self._phases: dict[str, Step] = {}
        self._phase_fields: dict[str, dict[str, Any]] = {}
        self._steps: list[Step] = []
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._old_sections = len(getattr(item, "_report_sections", ()))  # of earlier attempts
        self.test.begin()
        self._tokens: tuple[Token[Any], Token[Any]] = (CURRENT_TEST.set(self.test), CURRENT_STEP.set(None))

    # --- phases and steps ---

    @harmless
    def enter_phase(self, name: str) -> None:
        phase = Step.below(self.test, None, name, {"type": "group"})
        phase.begin(self.test, lazily=True)
        self._phases[name] = phase

    @harmless
    def leave_phase(self, name: str, error: BaseException | None) -> None:
        phase = self._phases.get(name)
        if phase is None:
            return
        fields = phase.end_lazily(error)
        if fields["status"] == "Failed" or phase.has_number or fields["duration_ms"] >= _SHORT_PHASE:
            phase.number  # noqa: B018  allocates it, so that the steps that follow have higher numbers
            self._phase_fields[name] = fields

    def _write_phases(self) -> None:
        whole = sum(report.duration for report in self._reports.values()) * 1000
        for name, fields in self._phase_fields.items():
            phase = self._phases[name]
            if fields["status"] == "Failed" or phase.children or fields["duration_ms"] >= _SMALL_SHARE * whole:
                self.test.write_step(phase, {**fields, "step_number": phase.number})

    def enter_step(self, title: str) -> None:
        self._steps.append(self.test.step(title).__enter__())

    def leave_step(self, error: BaseException | None) -> None:
        if self._steps:
            self._steps.pop().__exit__(type(error) if error else None, error, None)

    # --- what comes in while it runs ---

    def hold(self, kind: str, entry: dict[str, Any]) -> None:
        """An entry that is written at the end, since it may depend on the verdict."""
        if len(self._held) < _MOST_HELD:
            self._held.append((kind, {**entry, **self.test.innermost_place()}))

    @harmless
    def log(self, record: logging.LogRecord) -> None:
        place = f"{record.name} {record.pathname}:{record.lineno}"
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f"\n{record.exc_info[0].__name__ if record.exc_info[0] else ''}: {record.exc_info[1]}"
        self.test.console(
            record.levelname, message, source_url=place, line_number=record.lineno, logged_at=int(record.created * 1000)
        )

    def take(self, report: pytest.TestReport, excinfo: Optional[pytest.ExceptionInfo[BaseException]]) -> None:
        """The report of a phase. Of a subtest pytest makes one, too, which that of the call replaces."""
        self._reports[report.when or "call"] = report
        if excinfo is not None:
            self._errors[report.when or "call"] = excinfo.value
        else:
            self._errors.pop(report.when or "call", None)

    # --- the end ---

    def end(self) -> None:
        CURRENT_STEP.reset(self._tokens[1])
        CURRENT_TEST.reset(self._tokens[0])
        verdict = self._verdict()
        failed = verdict.get("status") == "Failed"
        self._write_phases()
        for kind, entry in self._held:
            if kind == "console":
                self.test.console(**entry)
            elif wanted(self._options.network, failed):
                self.test.network(**entry)
        if wanted(self._options.output, failed):
            self._output()
        self._properties()
        self.test.end(**verdict)

    def _verdict(self) -> dict[str, Any]:
        """Status, error and metadata."""
        if not self._reports:
            return {"status": "Pending", "error_message": "The session ended during the test"}
        for when in ("setup", "call", "teardown"):
            report = self._reports.get(when)
            if report is not None and report.failed:
                if when != "call":
                    self.test.add_metadata(phase=when)
                return {"status": "Failed", **self._error(when, report)}
        if self.failed_subtests:
            count = self.failed_subtests
            return {"status": "Failed", "error_message": f"contains {count} failed subtest{'s' if count > 1 else ''}"}
        for report in self._reports.values():
            if report.skipped or hasattr(report, "wasxfail"):
                return self._skipped(report)
        if "call" not in self._reports:
            return {"status": "Pending", "error_message": "The session ended before the test"}
        return {"status": "Passed"}

    def _skipped(self, report: pytest.TestReport) -> dict[str, Any]:
        expected = getattr(report, "wasxfail", None)
        if expected is None:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            return {"status": "Skipped", "error_message": cut(reason.removeprefix("Skipped: ") if reason else "")}
        self.test.add_metadata(outcome="xpassed" if report.passed else "xfailed")
        reason = expected.replace("reason: ", "", 1) if expected.startswith("reason: ") else expected
        if report.passed:
            return {"status": "Passed"}
        error = self._errors.get(report.when or "call")
        if error is not None:
            self.test.add_metadata(expected_error=cut(f"{type(error).__name__}: {error}", 2_000))
        return {"status": "Skipped", "error_message": cut(reason) or None}

    def _error(self, when: str, report: pytest.TestReport) -> dict[str, Any]:
        error, trace = self._errors.get(when), report.longreprtext
        message = str(error) if error is not None else trace
        return {
            "error_type": type(error).__name__[:255] if error is not None else None,
            "error_message": cut(message) or (type(error).__name__ if error is not None else None),
            "stack_trace": trace if len(trace) <= limits.MAX_TEXT else "…" + trace[1 - limits.MAX_TEXT :],
        }

    def _output(self) -> None:
        """Captured stdout and stderr: a line each; all of it as a file when there is more."""
        report = self._reports.get("teardown") or self._reports.get("call") or self._reports.get("setup")
        sections = report.sections[self._old_sections :] if report is not None else []
        kept = [(title, text) for title, text in sections if title.startswith(("Captured stdout", "Captured stderr"))]
        lines = [("stderr" in title, line) for title, text in kept for line in text.splitlines() if line]
        size = sum(len(line) for _, line in lines)
        if len(lines) > limits.MAX_OUTPUT_LINES or size > limits.MAX_OUTPUT:
            whole = "".join(f"--- {title} ---\n{text}\n" for title, text in kept)
            self.test.attach(self.test.hidden(whole).encode("utf-8", "replace"), "output.log", type="log")
        for is_error, line in _bounded(lines):
            self.test.console("warning" if is_error else "info", line, source_url="stderr" if is_error else "stdout")

    def _properties(self) -> None:
        """record_property: values into the metadata, files that tools named in this way as artifacts."""
        properties = {str(name): value for name, value in self.item.user_properties}
        if properties:
            self.test.add_metadata(properties={name: _short(value, 1_000) for name, value in properties.items()})
        for name, value in properties.items():
            if name.lower().endswith(_FILES) and isinstance(value, (str, os.PathLike)) and os.path.isfile(value):
                self.test.attach(value)


def _bounded(lines: list[tuple[bool, str]]) -> list[tuple[bool, str]]:
    """The first lines, as many as a test may have."""
    kept: list[tuple[bool, str]] = []
    size = 0
    for is_error, line in lines[: limits.MAX_OUTPUT_LINES]:
        size += len(line)
        if size > limits.MAX_OUTPUT:
            break
        kept.append((is_error, line))
    return kept


def _name(item: pytest.Item) -> str:
    """The node id without its file: `TestCart::test_total[3]`."""
    return item.nodeid.partition("::")[2] or item.name


def _tags(item: pytest.Item) -> list[str]:
    names = dict.fromkeys(mark.name for mark in item.iter_markers() if mark.name not in _NO_TAGS)
    return [name[:500] for name in names][:_MAX_TAGS]


def _metadata(item: pytest.Item) -> dict[str, Any]:
    parameters = getattr(getattr(item, "callspec", None), "params", None)
    return {"parameters": {str(name): _short(value) for name, value in parameters.items()}} if parameters else {}


def _short(value: Any, length: int = _MAX_REPR) -> str:
    try:
        return cut(value if isinstance(value, str) and length > _MAX_REPR else repr(value), length)
    except Exception:
        return f"<{type(value).__name__}>"
