"""Test case results in the body of a request."""

from typing import Any

from msgspec import Struct

from server.http.fields import (
    MAX_INDEXED,
    AnyStatus,
    FreeText,
    Instant,
    JsonObject,
    Measured,
    Positive,
    RequiredText,
    Tags,
    TestId,
    Text255,
)


class NewTestCase(Struct, omit_defaults=True):
    name: RequiredText
    test_id: TestId | None = None
    status: AnyStatus | None = None
    duration_ms: Measured | None = None
    error_message: FreeText | None = None
    error_type: Text255 | None = None
    stack_trace: FreeText | None = None
    attempt: Positive | None = None
    browser: Text255 | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None

    @staticmethod
    def prepare(values: dict[str, Any]) -> None:
        """`test_id` is the name by default. Set here for a name that will be cut: several cut names may be equal."""
        name = values.get("name")
        if values.get("test_id") is None and isinstance(name, str) and len(name) > MAX_INDEXED:
            values["test_id"] = name
