"""What a report is made of. The names and units of the fields are those of the server's API.

Times are ISO 8601 texts or milliseconds since 1970, durations are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

Time = Union[int, float, str, None]
STATUSES = ("Passed", "Failed", "Skipped", "Pending")
ARTIFACT_TYPES = ("screenshot", "log", "video", "har", "other")
CATEGORIES = ("before", "after", "error", "checkpoint")


def as_json(value: Any) -> dict[str, Any]:
    """The fields of one of the classes below that have a value, as a JSON object."""
    return {name: item for name, item in vars(value).items() if item is not None}


@dataclass(frozen=True)
class Run:
    name: str
    run_key: Optional[str] = None
    project: Optional[str] = None
    environment: Optional[str] = None
    branch: Optional[str] = None
    commit_sha: Optional[str] = None
    build_url: Optional[str] = None
    browser: Optional[str] = None
    platform: Optional[str] = None
    triggered_by: Optional[str] = None
    tags: Optional[list[str]] = None
    metadata: Optional[dict[str, Any]] = None
    started_at: Time = None


@dataclass(frozen=True)
class Test:
    """The result of one attempt of a test."""

    name: str
    test_id: Optional[str] = None
    status: str = "Passed"
    duration_ms: Optional[float] = None
    error_message: Optional[str] = None
    error_type: Optional[str] = None
    stack_trace: Optional[str] = None
    attempt: int = 1
    browser: Optional[str] = None
    tags: Optional[list[str]] = None
    metadata: Optional[dict[str, Any]] = None
    started_at: Time = None
    completed_at: Time = None

    __test__ = False  # pytest would take it for a class of tests


@dataclass(frozen=True)
class Step:
    step_number: int
    step_type: str = "other"
    iteration_number: int = 1
    parent_step_number: Optional[int] = None
    action: Optional[str] = None
    description: Optional[str] = None
    status: str = "Passed"
    duration_ms: Optional[float] = None
    element_selector: Optional[str] = None
    element_name: Optional[str] = None
    element_type: Optional[str] = None
    input_value: Optional[str] = None
    expected_value: Optional[str] = None
    actual_value: Optional[str] = None
    error_message: Optional[str] = None
    error_type: Optional[str] = None
    stack_trace: Optional[str] = None
    screenshot_path: Optional[str] = None
    started_at: Time = None
    completed_at: Time = None


@dataclass(frozen=True)
class Checkpoint:
    checkpoint_number: int
    name: str
    checkpoint_type: Optional[str] = None
    status: str = "Passed"
    expected_value: Optional[str] = None
    actual_value: Optional[str] = None
    message: Optional[str] = None
    step_number: Optional[int] = None
    iteration_number: int = 1
    captured_at: Time = None


@dataclass(frozen=True)
class ConsoleEntry:
    level: str
    message: str
    source_url: Optional[str] = None
    line_number: Optional[int] = None
    column_number: Optional[int] = None
    step_number: Optional[int] = None
    iteration_number: int = 1
    logged_at: Time = None


@dataclass(frozen=True)
class NetworkEntry:
    method: str
    url: str
    status_code: Optional[int] = None
    resource_type: Optional[str] = None
    request_headers: Optional[dict[str, Any]] = None
    response_headers: Optional[dict[str, Any]] = None
    request_size: Optional[int] = None
    response_size: Optional[int] = None
    duration_ms: Optional[float] = None
    error_text: Optional[str] = None
    step_number: Optional[int] = None
    iteration_number: int = 1
    started_at: Time = None


@dataclass(frozen=True)
class Artifact:
    """A file. `file` is its name in the spool's folder `files`; `refused` says why there is none."""

    file_name: str
    artifact_type: str = "other"
    artifact_category: Optional[str] = None
    step_number: Optional[int] = None
    iteration_number: int = 1
    description: Optional[str] = None
    captured_at: Time = None
    file: Optional[str] = None
    file_size: Optional[int] = None
    mtime_ns: Optional[int] = None  # only of a hard-linked file, whose bytes may change until they are read
    refused: Optional[str] = None
