"""Subtests of pytest 9 and pytest-subtests: a step each, with the steps within as its children."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

from reportd_client.steps import CURRENT_STEP, CURRENT_TEST
from reportd_client.texts import cut

if TYPE_CHECKING:
    from reportd_client.pytest_plugin.attempt import Attempt

_MARK = "subtest"  # the type of an open step whose verdict comes with the report of the subtest


def named_subtests(fixture: Any) -> None:
    """Open a step around each subtest of this fixture. pytest itself says only at its end that there was one.

    Set on the fixture's object, which belongs to one test. Where it cannot be set, record_subtest() makes the step.
    """
    original = fixture.test

    @contextmanager
    def test(msg: Any = None, **values: Any) -> Iterator[Any]:
        running = CURRENT_TEST.get()
        if running is None:
            with original(msg, **values) as entered:
                yield entered
        else:
            # The subtest inside, since it takes the exception and reports while the step is still open.
            with running.step(title_of(msg, values), _MARK), original(msg, **values) as entered:
                yield entered

    try:
        fixture.test = test
    except (AttributeError, TypeError):
        pass


def title_of(message: Any, values: Any) -> str:
    """`row (i=1)`."""
    parts = [str(message)] if message is not None else []
    if values:
        parts.append(f"({', '.join(f'{name}={value}' for name, value in values.items())})")
    return " ".join(parts) or "(subtest)"


def record_subtest(attempt: Attempt, report: Any) -> None:
    """The verdict of a subtest: of the step that is open for it, else of a step made now, as for unittest's subTest."""
    context = report.context
    step = CURRENT_STEP.get()
    if step is not None and step.test is attempt.test and step.kind == _MARK:
        _judge(step, report)
    else:
        with attempt.test.step(title_of(context.msg, context.kwargs), _MARK) as made:
            _judge(made, report)
    attempt.failed_subtests += bool(report.failed)


def _judge(step: Any, report: Any) -> None:
    if report.failed:
        text = report.longreprtext
        crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None)
        step.fail(crash or text[-1000:], stack_trace=cut(text))
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        step.skip(reason.replace("Skipped: ", "", 1))
