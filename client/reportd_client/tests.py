"""A running test, from its beginning to its verdict."""

from __future__ import annotations

import itertools
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Iterator

from reportd_client import limits
from reportd_client.evidence import Evidence
from reportd_client.mask import without_tokens
from reportd_client.notes import harmless
from reportd_client.steps import CURRENT_STEP, CURRENT_TEST, Step
from reportd_client.system import System
from reportd_client.texts import cut, error_fields, is_skip

if TYPE_CHECKING:
    from reportd_client.runs import Recorder


class Test(Evidence):
    """One attempt of a test. As a context manager it takes its verdict from the exception that leaves it."""

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, recorder: Recorder, name: str, test_id: str | None, attempt: int, **fields: Any) -> None:
        super().__init__(recorder)
        self.name, self.test_id, self.attempt = without_tokens(name), without_tokens(test_id or name), attempt
        self._fields: dict[str, Any] = {"tags": None, "metadata": None, **fields}
        self._numbers: dict[int, Iterator[int]] = {}
        self._error = 0  # id() of the exception that a step within has reported with its trace

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
        fields = {**self._fields, "metadata": self._bounded_metadata(self._fields["metadata"])}
        test.update(started_at=self._started, **{name: value for name, value in fields.items() if value})
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
        values = self._hidden(self._recorder.masks.fields(values, ("error_message", "stack_trace", "name")))
        test = {name: value for name, value in values.items() if value not in (None, [], {})}
        self._recorder.append({"kind": "test", "ref": self.ref, "test": test}, verdict=True)

    def _bounded_metadata(self, metadata: Any) -> Any:
        if not metadata:
            return None
        metadata = self._recorder.masks.anything(metadata)
        return metadata if len(str(metadata)) <= limits.MAX_METADATA else {"cut": cut(str(metadata), 10_000)}

    # --- what a test sets ---

    def set_status(self, status: str, message: str | None = None) -> None:
        """The verdict, whatever happens later: Passed, Failed, Skipped or Pending."""
        self._fields.update(status=self.status_word(status), error_message=message)

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

    def next_step(self, iteration: int) -> int:
        return next(self._numbers.setdefault(iteration, itertools.count(1)))

    def is_new(self, error: BaseException) -> bool:
        """Whether no step within has reported this exception yet."""
        known, self._error = self._error == id(error), id(error)
        return not known
