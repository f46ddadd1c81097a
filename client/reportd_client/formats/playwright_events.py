"""The events of a blob report of Playwright, from which its results are put together one after the other."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import IO, Any, Callable, Iterator, Optional

from reportd_client.formats.playwright import Attempt, Case, Run, shard_of
from reportd_client.formats.playwright_error import dicts, text_of, without_source
from reportd_client.formats.playwright_files import fields_of, is_shown, text_of_chunk
from reportd_client.formats.playwright_steps import Step
from reportd_client.formats.playwright_values import number, whole
from reportd_client.formats.result import File

MAX_LINE = 32 << 20  # bytes; the files that a test attaches as bytes are in a line
MAX_VALUES = 500_000  # of a line; an empty list takes 30 times as much memory as its text
MAX_OPEN = 16 << 20  # bytes of the events of all results that have not ended; as Python's values five times as much
MAX_RESULTS = 1_000  # that have not ended: workers, of which a machine has fewer
MAX_DEPTH = 100  # of describe blocks
_FILE_FIELDS = 500  # bytes of what is kept of an attachment

_JSON = json.JSONDecoder(strict=False)

Ended = tuple[Case, Optional[Attempt]]


def lines(stream: IO[bytes]) -> Iterator[tuple[Optional[dict[str, Any]], int]]:
    """The event of each line, None for one that is damaged or too long, and the bytes of the line."""
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            yield None, 0
        elif not line.isspace():
            yield _event(line.decode("utf-8", "replace")), len(line)


def _event(line: str) -> Optional[dict[str, Any]]:
    if line.count(",") + line.count("[") + line.count("{") > MAX_VALUES:
        return None
    try:
        event = _JSON.decode(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


class _Open:
    """A result that has not ended."""

    def __init__(self, case: Case, attempt: Attempt) -> None:
        self.case, self.attempt = case, attempt
        self.steps: dict[str, Step] = {}
        self.size = 0


class Events:
    """Takes events. `file_of(name, fields)`: an attachment that is a file of the report. `bodies`: a temporary file for
    those that are bytes in a line."""

    def __init__(self, file_of: Callable[[str, dict[str, Any]], File], bodies: IO[bytes]) -> None:
        self.run = Run()
        self.has_begun = self.has_ended = False
        self.count = self.damaged = self.lost = 0
        self._file_of, self._bodies = file_of, bodies
        self._separator = "/"
        self._cases: dict[str, Case] = {}
        self._waiting: dict[str, Case] = {}  # those that have no result yet
        self._open: dict[str, _Open] = {}
        self._size = self._of_event = 0

    def take(self, event: Optional[dict[str, Any]], size: int) -> Optional[Ended]:
        """A result that ends with this event, whose line has `size` bytes."""
        self._of_event = size
        self.count += 1
        if event is None:
            self.damaged += 1
            return None
        self.has_begun = self.has_begun or event.get("method") == "onBegin"
        take = _TAKERS.get(str(event.get("method")))
        try:
            return take(self, event["params"]) if take is not None else None
        except (TypeError, AttributeError, ValueError, KeyError):  # values of other types than Playwright writes
            self.damaged += 1
            return None

    def rest(self) -> Iterator[Ended]:
        """After all events: the results that have not ended, and the tests that have none."""
        for open_ in self._open.values():
            yield open_.case, open_.attempt
        self._open.clear()
        for case in self._waiting.values():
            yield case, None

    # --- the run ---

    def _metadata(self, params: dict[str, Any]) -> None:
        self._separator = text_of(params.get("pathSeparator")) or "/"

    def _configure(self, params: dict[str, Any]) -> None:
        self.run.config = params["config"] if isinstance(params.get("config"), dict) else {}

    def _error(self, params: dict[str, Any]) -> None:
        self.run.errors = [*self.run.errors, params.get("error")][:50]

    def _end(self, params: dict[str, Any]) -> None:
        result = params.get("result") or {}
        self.has_ended = True
        self.run.status, self.run.started = result.get("status"), number(result.get("startTime"))

    def _project(self, params: dict[str, Any]) -> None:
        project = params["project"]
        name = text_of(project.get("name"))
        self.run.projects.append(name)
        shard = shard_of(self.run.config)
        for file in dicts(project.get("suites")):
            case = Case(name, text_of(file.get("title")).replace(self._separator, "/"), (), shard=shard)
            self._suite(file, case)

    def _suite(self, suite: dict[str, Any], outer: Case) -> None:
        """Take the tests of a suite; `outer` has what they share."""
        entries = [*dicts(suite.get("entries")), *dicts(suite.get("suites")), *dicts(suite.get("tests"))]
        for entry in entries:
            case = replace(outer, titles=(*outer.titles, text_of(entry.get("title"))))
            if "testId" not in entry:
                if len(case.titles) <= MAX_DEPTH:
                    self._suite(entry, case)
                continue
            case.line = whole((entry.get("location") or {}).get("line"))
            case.tags = [tag for tag in entry.get("tags") or () if isinstance(tag, str)]
            case.annotations = dicts(entry.get("annotations"))
            case.repeat = whole(entry.get("repeatEachIndex"))
            self._cases[str(entry["testId"])] = self._waiting[str(entry["testId"])] = case
            self.run.tests += 1

    # --- results ---

    def _begin_test(self, params: dict[str, Any]) -> None:
        result, key = params["result"], str(params.get("testId"))
        case = self._cases.get(key)
        if case is None or len(self._open) >= MAX_RESULTS:
            self.damaged += 1
            return
        self._waiting.pop(key, None)
        if not self._open:
            self._bodies.seek(0)
            self._bodies.truncate()
        attempt = Attempt(whole(result.get("retry")), whole(result.get("workerIndex"), -1))
        attempt.started = number(result.get("startTime"))
        self._open[str(result.get("id"))] = _Open(case, attempt)

    def _end_test(self, params: dict[str, Any]) -> Optional[Ended]:
        test, result = params["test"], params["result"]
        open_ = self._open.pop(str(result.get("id")), None)
        if open_ is None:
            return None
        self._size -= open_.size
        attempt = open_.attempt
        attempt.expected = text_of(test.get("expectedStatus")) or "passed"
        attempt.status, attempt.duration = text_of(result.get("status")), number(result.get("duration"))
        attempt.errors, attempt.annotations = dicts(result.get("errors")), dicts(result.get("annotations"))
        if result.get("attachments"):  # of versions before 1.50; later ones have an event for them
            attempt.attachments, attempt.files = [], {}
            self._attach_to(attempt, result["attachments"])
        return open_.case, attempt

    def _begin_step(self, params: dict[str, Any]) -> None:
        open_, given = self._open.get(str(params.get("resultId"))), params["step"]
        if open_ is None or not self._has_room(open_, self._of_event):
            return
        step = Step(text_of(given.get("title")), text_of(given.get("subtitle")), text_of(given.get("category")))
        step.params = given["params"] if isinstance(given.get("params"), dict) else {}
        step.started = number(given.get("startTime"))
        parent = open_.steps.get(str(given.get("parentStepId")))
        (open_.attempt.steps if parent is None else parent.steps).append(step)
        open_.steps[str(given.get("id"))] = step

    def _end_step(self, params: dict[str, Any]) -> None:
        open_, given = self._open.get(str(params.get("resultId"))), params["step"]
        step = open_.steps.get(str(given.get("id"))) if open_ is not None else None
        if open_ is None or step is None or not self._has_room(open_, self._of_event):
            return
        step.duration = number(given.get("duration"))
        step.error = without_source(given.get("error"))
        step.skipped = any(each.get("type") in ("skip", "fixme") for each in dicts(given.get("annotations")))
        step.attachments = [int(at) for at in given.get("attachments") or () if number(at) is not None]

    def _has_room(self, open_: _Open, size: int) -> bool:
        """Whether an event may be kept in memory until its test ends."""
        if self._size + size > MAX_OPEN:
            self.lost += 1
            return False
        open_.size += size
        self._size += size
        return True

    # --- files and output ---

    def _attach(self, params: dict[str, Any]) -> None:
        open_ = self._open.get(str(params.get("resultId")))
        attachments = dicts(params.get("attachments"))
        if open_ is not None and self._has_room(open_, _FILE_FIELDS * len(attachments)):
            self._attach_to(open_.attempt, attachments)

    def _attach_to(self, attempt: Attempt, attachments: Any) -> None:
        for attachment in dicts(attachments):
            attempt.attachments.append({"name": attachment.get("name"), "contentType": attachment.get("contentType")})
            if is_shown(attachment):
                attempt.files[len(attempt.attachments) - 1] = self._file(attachment)

    def _file(self, attachment: dict[str, Any]) -> File:
        fields = fields_of(attachment)
        if isinstance(attachment.get("path"), str):
            return self._file_of(attachment["path"], fields)
        data = attachment.get("base64")
        return self._body(fields, base64.b64decode(data) if isinstance(data, str) else b"")

    def _body(self, fields: dict[str, Any], data: bytes) -> File:
        """Bytes of a line, which are kept in a temporary file until their test ends."""
        bodies = self._bodies
        start = bodies.seek(0, 2)
        bodies.write(data)

        def make() -> bytes:
            bodies.seek(start)
            return bodies.read(len(data))

        return File(fields, make=make)

    def _print(self, params: dict[str, Any]) -> None:
        open_, data = self._open.get(str(params.get("resultId"))), params.get("data")
        if open_ is not None and isinstance(data, str) and self._has_room(open_, self._of_event):
            body = base64.b64decode(data) if params.get("isBase64") else None
            open_.attempt.output.add(
                "stderr" if params.get("type") == "stderr" else "stdout", text_of_chunk(data, body)
            )


_TAKERS: dict[str, Callable[[Events, Any], Optional[Ended]]] = {
    "onBlobReportMetadata": Events._metadata,
    "onConfigure": Events._configure,
    "onProject": Events._project,
    "onError": Events._error,
    "onEnd": Events._end,
    "onTestBegin": Events._begin_test,
    "onTestEnd": Events._end_test,
    "onStepBegin": Events._begin_step,
    "onStepEnd": Events._end_step,
    "onAttach": Events._attach,
    "onStdIO": Events._print,
}
