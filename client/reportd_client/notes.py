"""Problems of reporting: each kind is said once, and none of them reaches a test."""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Any, Callable, Sequence, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


class ReportdWarning(UserWarning):
    """A report is not complete, or a call had a wrong argument."""


def _warn(text: str) -> None:
    try:
        warnings.warn(f"reportd: {text}", ReportdWarning, stacklevel=4)
    except ReportdWarning:  # warnings are errors here; a test must not fail because of its report
        print(f"reportd: {text}", file=sys.stderr)


class Notes:
    """`strict`: wrong arguments raise ValueError. `say` gets the first problem of each kind."""

    def __init__(self, strict: bool = False, say: Callable[[str], None] = _warn) -> None:
        self.strict = strict
        self._say = say
        self._kinds: set[str] = set()

    def problem(self, kind: str, text: str) -> None:
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._say(text)

    def wrong(self, text: str) -> None:
        """A wrong argument, which the caller then corrects."""
        if self.strict:
            raise ValueError(text)
        self.problem(text, text)

    def one_of(self, name: str, value: Any, allowed: Sequence[Any], otherwise: Any) -> Any:
        """The value when it is allowed, else `otherwise`."""
        if value in allowed:
            return value
        self.wrong(f"{name} must be one of {', '.join(filter(None, allowed))}, not {value!r}")
        return otherwise


def harmless(method: Function) -> Function:
    """A method of an object with `notes`: an unexpected exception becomes a note, and None is returned.

    With REPORTD_STRICT=1 it is raised.
    """

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except Exception as error:
            if self.notes.strict:
                raise
            self.notes.problem(method.__name__, f"{method.__name__}() failed: {type(error).__name__}: {error}")
            return None

    return cast(Function, call)
