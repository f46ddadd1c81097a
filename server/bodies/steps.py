"""Steps in the body of a request."""

from collections.abc import Sequence

from msgspec import Struct

from server.background import aside
from server.errors import Invalid, Problem
from server.http.fields import (
    AnyStatus,
    FreeText,
    IndexedText,
    Instant,
    Kind,
    Measured,
    Natural,
    Positive,
    Text50,
    Text100,
    Text255,
)
from server.redact.rules import REDACTED, is_password_field

# The specification's step types. In the sync document's form, `action` may be one of them.
STEP_TYPES = frozenset(
    {
        "click",
        "type",
        "assert",
        "navigate",
        "wait",
        "screenshot",
        "scroll",
        "select",
        "hover",
        "drag_drop",
        "execute_script",
        "switch_frame",
        "switch_window",
        "accept_alert",
        "dismiss_alert",
        "upload_file",
    }
)


PARENT_RULE = "must be smaller than step_number"


class NewStep(Struct, omit_defaults=True):
    """A step. Without `step_type`, its type is the `action` if that is a known step type, else `other`."""

    step_number: Natural
    step_type: Kind | None = None
    iteration_number: Positive | None = None
    parent_step_number: Natural | None = None
    action: Text100 | None = None
    description: FreeText | None = None
    status: AnyStatus | None = None
    duration_ms: Measured | None = None
    element_selector: FreeText | None = None
    element_name: Text255 | None = None
    element_type: Text50 | None = None
    input_value: FreeText | None = None
    expected_value: FreeText | None = None
    actual_value: FreeText | None = None
    error_message: FreeText | None = None
    error_type: Text100 | None = None
    stack_trace: FreeText | None = None
    screenshot_path: IndexedText | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Iteration and step number, which identify a step within its test case."""
        return self.iteration_number or 1, self.step_number


class TypedStep(NewStep, kw_only=True):
    """A step with its `step_type`."""

    step_type: Kind


def check(new: Sequence[NewStep], path: str = "steps") -> None:
    """Sets missing step types. `path`: of the list.

    Raises Invalid when a step is sent twice, or inside a step that does not come before it.
    """
    seen = set[tuple[int, int]]()
    for i, step in enumerate(new):
        position = step.position
        if position in seen:
            raise Invalid(Problem(f"{path}[{i}].step_number", "is sent twice for the same iteration"))
        if not is_below(step.step_number, step.parent_step_number):
            raise Invalid(Problem(f"{path}[{i}].parent_step_number", PARENT_RULE))
        seen.add(position)
        step.step_type = step.step_type or (step.action if step.action in STEP_TYPES else "other")


async def hide_passwords(new: Sequence[NewStep], size: int) -> None:
    """Redacts the input of password fields. `size`: bytes of the body."""
    await aside(size, _mask_passwords, new)


def is_below(step_number: int, parent: int | None) -> bool:
    """Whether a step may be inside the step `parent`. That may be missing: steps may be sent in several requests."""
    return parent is None or parent < step_number


def _mask_passwords(new: Sequence[NewStep]) -> None:
    for step in new:
        if step.input_value and _takes_password(step):
            step.input_value = REDACTED


def _takes_password(step: NewStep) -> bool:
    return is_password_field(step.element_selector, step.element_name, step.element_type, step.action)
