"""A running test: every call appends to the spool at once, within the limits of one test."""

from __future__ import annotations

import itertools
import os
import uuid
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Iterator

from reportd_client import limits
from reportd_client.entries import Entries
from reportd_client.model import ARTIFACT_TYPES, CATEGORIES, STATUSES
from reportd_client.notes import harmless
from reportd_client.screenshots import image_of
from reportd_client.steps import CURRENT_STEP, CURRENT_TEST, Step
from reportd_client.system import System
from reportd_client.texts import artifact_type_of, cut, error_fields, image_suffix, is_skip

if TYPE_CHECKING:
    from reportd_client.run import Recorder


class Test:
    """One attempt of a test. As a context manager it takes its verdict from the exception that leaves it."""

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, recorder: Recorder, name: str, test_id: str | None, attempt: int, **fields: Any) -> None:
        self._recorder = recorder
        self.notes = recorder.notes
        self.ref = str(uuid.UUID(bytes=System.urandom(16), version=4))
        self.name, self.test_id, self.attempt = name, test_id or name, attempt
        self._fields: dict[str, Any] = {"tags": None, "metadata": None, **fields}
        self.iteration_number = 1
        self._numbers: dict[int, Iterator[int]] = {}
        self._entries = Entries(recorder, self.ref)
        self._error = 0  # id() of the exception that a step within has reported with its trace
        self._checkpoints = itertools.count(1)
        self._shots: dict[Step, list[dict[str, Any]]] = {}  # of open steps; their category follows from the step's end
        self.innermost: Step | None = None  # the open step, for events that come from outside of its context
        self.failed_step: Step | None = None  # the deepest step that an exception has left
        self._pid = System.getpid()
        self._state = "new"

    # --- from its beginning to its end ---

    def __enter__(self) -> Test:
        self.begin()
        self._tokens: tuple[Token[Any], Token[Any]] = (CURRENT_TEST.set(self), CURRENT_STEP.set(None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        CURRENT_STEP.reset(self._tokens[1])
        CURRENT_TEST.reset(self._tokens[0])
        self.end(error)

    async def __aenter__(self) -> Test:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @harmless
    def begin(self) -> None:
        """Write that the test has begun. A test that never ends is then Pending."""
        if not self._recorder.on:
            return
        self._started = System.now()
        self._state = "open"
        self._recorder.writer.check_space()
        test = {"name": cut(self.name, 500) or "?", "test_id": self.test_id, "attempt": self.attempt}
        test.update(started_at=self._started, **{name: value for name, value in self._fields.items() if value})
        self._recorder.append({"kind": "begin", "ref": self.ref, "test": test}, verdict=True)

    @harmless
    def end(self, error: BaseException | None = None, **fields: Any) -> None:
        """Write the verdict. `fields` win over what follows from `error`."""
        if not self.is_open():
            return
        self._state = "ended"
        found: dict[str, Any] = {"status": "Passed"}
        if error is not None:
            if is_skip(type(error)):
                found = {"status": "Skipped", "error_message": cut(str(error))}
            else:
                found = {"status": "Failed", **error_fields(error)}
        ended = System.now()
        found.update(duration_ms=max(0, ended - self._started), completed_at=ended)
        values = {**found, **self._fields, **fields}
        values["metadata"] = self._bounded_metadata(values.get("metadata"))
        values = self._recorder.masks.fields(values, ("error_message", "stack_trace", "name"))
        test = {name: value for name, value in values.items() if value not in (None, [], {})}
        self._recorder.append({"kind": "test", "ref": self.ref, "test": test}, verdict=True)

    def is_open(self) -> bool:
        """Whether entries are written. A forked child writes none to its parent's test: their numbers would clash."""
        return self._state == "open" and self._pid == System.getpid()

    def _bounded_metadata(self, metadata: Any) -> Any:
        if not metadata:
            return None
        metadata = self._recorder.masks.anything(metadata)
        return metadata if len(str(metadata)) <= limits.MAX_METADATA else {"cut": cut(str(metadata), 10_000)}

    # --- what a test sets ---

    def set_status(self, status: str, message: str | None = None) -> None:
        """The verdict, whatever happens later: Passed, Failed, Skipped or Pending."""
        self._fields.update(status=self.status_word(status), error_message=message)

    def status_word(self, status: str) -> str:
        word = str(status).capitalize()
        if word not in STATUSES:
            self.notes.wrong(f"status must be one of {', '.join(STATUSES)}, not {status!r}")
            return "Pending"
        return word

    def iteration(self, number: int) -> None:
        """The steps, files and log entries that follow are of this iteration, from 1."""
        if not isinstance(number, int) or number < 1:
            self.notes.wrong(f"iteration() takes a whole number from 1, not {number!r}")
            return
        self.iteration_number = number

    def add_metadata(self, **values: Any) -> None:
        self._fields["metadata"] = {**(self._fields["metadata"] or {}), **values}

    # --- steps ---

    def step(self, title: str, type: str | None = None, **details: Any) -> Step:
        """A step of this test, below the step that is open in this context."""
        return Step.below(self, None, title, {"type": type, **details})

    def open_step(self) -> Step | None:
        step = CURRENT_STEP.get()
        return step if step is not None and step.test is self else None

    def next_step(self, iteration: int) -> int:
        return next(self._numbers.setdefault(iteration, itertools.count(1)))

    def is_new(self, error: BaseException) -> bool:
        """Whether no step within has reported this exception yet."""
        known, self._error = self._error == id(error), id(error)
        return not known

    def write_step(self, step: Step, fields: dict[str, Any]) -> None:
        shots = self._shots.pop(step, [])
        if fields["status"] == "Failed" and shots and shots[-1].get("artifact_category") is None:
            shots[-1]["artifact_category"] = "error"
        for shot in shots:
            self._add("artifacts", {"artifact_category": "after", **{k: v for k, v in shot.items() if v is not None}})
        if shots and shots[-1].get("refused") is None:
            fields["screenshot_path"] = shots[-1]["file_name"]
        self._add("steps", self._recorder.masks.step(fields))

    # --- entries ---

    @harmless
    def checkpoint(
        self,
        name: str,
        *,
        expected: Any = None,
        actual: Any = None,
        status: str | None = None,
        message: str | None = None,
    ) -> None:
        """A named verification. Without `status` it has passed when `expected` equals `actual`."""
        word = self.status_word(status) if status else ("Passed" if expected == actual else "Failed")
        entry = {
            "checkpoint_number": next(self._checkpoints),
            "name": cut(str(name), 500) or "?",
            "status": word,
            "expected_value": None if expected is None else cut(str(expected)),
            "actual_value": None if actual is None else cut(str(actual)),
            "message": message,
            "captured_at": System.now(),
        }
        entry = self._recorder.masks.fields(entry, ("expected_value", "actual_value", "message"))
        self._add("checkpoints", {**entry, **self._place()})

    @harmless
    def console(
        self,
        level: str,
        message: str,
        *,
        source_url: str | None = None,
        line_number: int | None = None,
        column_number: int | None = None,
        logged_at: Any = None,
        **place: Any,
    ) -> None:
        """A line of a log. Unknown levels become `info` on the server. `place`: step_number and iteration_number."""
        masks = self._recorder.masks
        entry = {
            "level": str(level) or "info",
            "message": masks.text(cut(str(message))),
            "source_url": masks.url(source_url) if source_url else None,
            "line_number": line_number,
            "column_number": column_number,
            "logged_at": System.now() if logged_at is None else logged_at,
        }
        self._add("console_logs", {**entry, **(place or self._place())})

    @harmless
    def network(self, method: str, url: str, **fields: Any) -> None:
        """A request of the system under test: `status_code`, `duration_ms`, `request_headers`, …; see model.py."""
        entry = {"method": str(method)[:20] or "?", "url": str(url) or "?", "started_at": System.now(), **fields}
        self._add("network_logs", {**self._recorder.masks.network(entry), **self._place(), **_given(fields)})

    def _place(self) -> dict[str, Any]:
        """The step that is open, and the iteration."""
        step = self.open_step()
        number = step._number if step is not None and step.iteration == self.iteration_number else None
        return {"step_number": number, "iteration_number": self.iteration_number}

    def innermost_place(self) -> dict[str, Any]:
        """The step that was opened last in any context, and the iteration."""
        step = self.innermost
        number = step._number if step is not None and step.iteration == self.iteration_number else None
        return {"step_number": number, "iteration_number": self.iteration_number}

    # --- files ---

    @harmless
    def attach(
        self,
        source: Any,
        name: str | None = None,
        *,
        type: str | None = None,
        category: str | None = None,
        description: str | None = None,
        step: Step | None = None,
    ) -> None:
        """A file: a path, or bytes with a `name`. Its bytes are those of this moment, whatever happens to it later."""
        if not self.is_open():
            return
        if name is None:
            name = os.path.basename(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else "attachment"
        entry: dict[str, Any] = {
            "file_name": str(name),
            "artifact_type": self.notes.one_of("type", type or artifact_type_of(str(name)), ARTIFACT_TYPES, "other"),
            "artifact_category": self.notes.one_of("category", category, (*CATEGORIES, None), None),
            "description": description,
            "step_number": step.number if step is not None else None,
            "iteration_number": step.iteration if step is not None else self.iteration_number,
            "captured_at": System.now(),
        }
        entry.update(self._recorder.writer.store(source, important=category == "error"))
        self._add("artifacts", entry)

    def screenshot(self, source: Any, category: str | None = None) -> None:
        """A screenshot of the test, at the step that is open."""
        self.take_screenshot(source, category, self.open_step())

    @harmless
    def take_screenshot(self, source: Any, category: str | None, step: Step | None) -> None:
        if not self.is_open():
            return
        image = image_of(source)
        category = self.notes.one_of("category", category, (*CATEGORIES, None), None)
        if step is None:
            self.attach(image, f"screenshot{image_suffix(_head(image))}", type="screenshot", category=category)
            return
        shots = self._shots.setdefault(step, [])
        more = f"_{len(shots) + 1}" if shots else ""
        entry = {
            "file_name": f"step_{step.number:03d}{more}{image_suffix(_head(image))}",
            "artifact_type": "screenshot",
            "artifact_category": category,
            "step_number": step.number,
            "iteration_number": step.iteration,
            "captured_at": System.now(),
        }
        entry.update(self._recorder.writer.store(image, important=category == "error"))
        shots.append(entry)

    def _add(self, to: str, entry: dict[str, Any]) -> None:
        if self.is_open():
            self._entries.add(to, entry)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("step_number", "iteration_number") if name in fields}


def _head(image: Any) -> bytes:
    return bytes(image[:4]) if isinstance(image, (bytes, bytearray, memoryview)) else b""
