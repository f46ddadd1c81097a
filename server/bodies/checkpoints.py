"""Checkpoints in the body of a request."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from server.errors import Invalid, Problem
from server.http.fields import AnyStatus, FreeText, Instant, Natural, Positive, RequiredText


class NewCheckpoint(Struct, omit_defaults=True):
    checkpoint_number: Natural
    name: RequiredText
    checkpoint_type: Annotated[str, Meta(max_length=50)] | None = None
    status: AnyStatus | None = None
    expected_value: FreeText | None = None
    actual_value: FreeText | None = None
    message: FreeText | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    screenshot_artifact_id: UUID | None = None
    captured_at: Instant | None = None


def refuse_duplicates(items: Sequence[NewCheckpoint], path: str = "checkpoints") -> None:
    """Raises Invalid when a checkpoint is sent twice. `path`: of the list."""
    seen: set[tuple[int, int]] = set()
    for i, item in enumerate(items):
        position = (item.iteration_number or 1, item.checkpoint_number)
        if position in seen:
            raise Invalid(Problem(f"{path}[{i}].checkpoint_number", "is sent twice for the same iteration"))
        seen.add(position)
