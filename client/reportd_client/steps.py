"""Steps: context managers and decorators that work anywhere below a running test, and do nothing elsewhere."""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, cast

from reportd_client.notes import harmless
from reportd_client.system import System
from reportd_client.texts import ACTION, cut, error_fields, is_skip, step_type_of

if TYPE_CHECKING:
    from reportd_client.notes import Notes
    from reportd_client.tests import Test

CURRENT_TEST: ContextVar[Optional[Test]] = ContextVar("reportd_test", default=None)
CURRENT_STEP: ContextVar[Optional[Step]] = ContextVar("reportd_step", default=None)

Function = TypeVar("Function", bound=Callable[..., Any])


class Step:
    """One step: a context manager, or a decorator that makes a step of each call.

    `type` follows from the first word of the title unless it is given. Without a running test all methods do nothing.
    """

    _number: int | None
    iteration: int
    children: int
    _outer: Step | None  # the innermost step when this one was opened
    __slots__ = (
        *("_details", "_more", "_number", "_open", "_outer", "_started", "_token"),
        *("children", "iteration", "parent", "test", "title"),
    )

    def __init__(
        self,
        title: str,
        type: str | None = None,
        *,
        selector: str | None = None,
        element_name: str | None = None,
        element_type: str | None = None,
        input_value: str | None = None,
        expected: Any = None,
        actual: Any = None,
        description: str | None = None,
    ) -> None:
        self.title = title
        self._details = (type, selector, element_name, element_type, input_value, expected, actual, description)
        self.test: Test | None = None
        self.parent: Step | None = None
        self._open = False

    @classmethod
    def below(cls, test: Test | None, parent: Step | None, title: str, details: dict[str, Any]) -> Step:
        """A step of this test and parent, whatever the context says."""
        step = cls(title, **details)
        step.test, step.parent = test, parent
        return step

    def step(self, title: str, type: str | None = None, **details: Any) -> Step:
        """A step within this one."""
        return Step.below(self.test, self, title, {"type": type, **details})

    @property
    def notes(self) -> Notes:
        assert self.test is not None
        return self.test.notes

    @property
    def number(self) -> int:
        """The step's number. Allocated with the first use, since a phase of a test is a step only if it has some."""
        if self._number is None:
            assert self.test is not None
            self._number = self.test.next_step(self.iteration)
        return self._number

    # --- as a context manager ---

    def __enter__(self) -> Step:
        if self.test is None:
            self.test = CURRENT_TEST.get()
            if self.test is None:
                return self
        if self.test.is_open():
            self.begin(self.test)
        return self

    def begin(self, test: Test, lazily: bool = False) -> None:
        """Open the step. `lazily`: it gets its number when something within it needs one."""
        self._more: dict[str, Any] = {}
        self.children = 0
        self.iteration = test.iteration_number
        if self.parent is None:
            self.parent = test.open_step()
        if self.parent is not None:
            self.parent.children += 1
            if self.parent.iteration != self.iteration:
                self.parent = None
        self._number = None
        if not lazily:
            if self.parent is not None:
                self.parent.number  # noqa: B018  allocates it: a parent's number is smaller than its child's
            self._number = test.next_step(self.iteration)
        self._started = System.now()
        self._token: Token[Step | None] = CURRENT_STEP.set(self)
        self._open = True
        self._outer, test.innermost = test.innermost, self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._leave()
            self._end(error)

    def end_lazily(self, error: BaseException | None) -> dict[str, Any]:
        """Close the step without writing it: its fields, but for the number."""
        self._leave()
        self._take(error)
        number, self._number = self._number, self._number or 0
        fields = self._fields()
        self._number = number
        return fields

    @property
    def has_number(self) -> bool:
        return self._number is not None

    @property
    def kind(self) -> str | None:
        """The type that was given."""
        return self._details[0]

    def _leave(self) -> None:
        self._open = False
        if self.test is not None and self.test.innermost is self:
            self.test.innermost = self._outer
        try:
            CURRENT_STEP.reset(self._token)
        except ValueError:  # left in another context than it was entered in, as by an asynchronous generator
            CURRENT_STEP.set(self.parent)

    async def __aenter__(self) -> Step:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @harmless
    def _end(self, error: BaseException | None) -> None:
        assert self.test is not None
        self._take(error)
        self.test.write_step(self, self._fields())

    def _take(self, error: BaseException | None) -> None:
        assert self.test is not None
        if error is not None and "status" not in self._more:
            if is_skip(type(error)):
                self._more.update(status="Skipped", error_message=cut(str(error)))
            else:
                self.test.failed_step = self.test.failed_step or self
                self._more.update(status="Failed", **error_fields(error, self.test.is_new(error)))

    def _fields(self) -> dict[str, Any]:
        kind, selector, element_name, element_type, input_value, expected, actual, description = self._details
        title, ended = str(self.title), System.now()
        fields = {
            "step_number": self.number,
            "parent_step_number": self.parent.number if self.parent is not None else None,
            "step_type": (kind or step_type_of(title, self.children > 0))[:50],
            "iteration_number": self.iteration,
            "action": cut(title, ACTION),
            "description": _text(description or (title if len(title) > ACTION else None)),
            "status": "Passed",
            "duration_ms": max(0, ended - self._started),
            "element_selector": _text(selector),
            "element_name": _text(element_name),
            "element_type": _text(element_type),
            "input_value": _text(input_value),
            "expected_value": _text(expected),
            "actual_value": _text(actual),
            "started_at": self._started,
            "completed_at": ended,
            **self._more,
        }
        return {name: value for name, value in fields.items() if value is not None}

    # --- as a decorator ---

    def __call__(self, function: Function) -> Function:
        """The function, each call of which is a step."""
        title, details = self.title, self._details

        def one_step() -> Step:
            step = Step(title)
            step._details = details
            return step

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*arguments: Any, **named: Any) -> Any:
                with one_step():
                    return await function(*arguments, **named)

            return cast(Function, call_async)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with one_step():
                return function(*arguments, **named)

        return cast(Function, call)

    # --- what a step has ---

    def set(
        self, *, status: str | None = None, input_value: Any = None, expected: Any = None, actual: Any = None
    ) -> None:
        """Values that are known only while the step runs."""
        if self._open and self.test is not None:
            values = {"input_value": input_value, "expected_value": expected, "actual_value": actual}
            self._more.update({name: _text(value) for name, value in values.items() if value is not None})
            if status is not None:
                self._more["status"] = self.test.status_word(status)

    def fail(self, message: str, **fields: Any) -> None:
        """The step has failed although it raises nothing. The test goes on, and its own status is not changed."""
        if self._open:
            self._more.update(status="Failed", error_message=cut(str(message)), **fields)

    def skip(self, reason: str) -> None:
        if self._open:
            self._more.update(status="Skipped", error_message=cut(str(reason)))

    def screenshot(self, source: Any, category: str | None = None) -> None:
        """A screenshot of this step: image bytes, a file, a Playwright page or locator, a Selenium driver or element.

        Without `category` it is `after`; when the step raises, its last screenshot is `error`.
        """
        if self._open and self.test is not None:
            self.test.take_screenshot(source, category, self)

    def attach(self, source: Any, name: str | None = None, **fields: Any) -> None:
        """A file of this step: a path, or bytes with a `name`."""
        if self._open and self.test is not None:
            self.test.attach(source, name, step=self, **fields)


def _text(value: Any) -> str | None:
    return None if value is None else cut(value if isinstance(value, str) else str(value))
